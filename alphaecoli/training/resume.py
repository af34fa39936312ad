"""Stopping and continuing: signals, which checkpoint belongs to a run, and what it records."""

import datetime
import json
import logging
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from alphaecoli.checkpoints.arrays import RUN_FILE
from alphaecoli.checkpoints.read import describe_format
from alphaecoli.config import heads_of, with_new_keys
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import AnyPath, write_json
from alphaecoli.schema import HEADS, Config
from alphaecoli.tracks.organisms import Organisms
from alphaecoli.tracks.process import NOT_IN_STORE

LOGGER = logging.getLogger(__name__)
# Sections and keys that may differ from the checkpoint's, because they change neither the arrays
# nor which windows belong to which split. Paths are judged by the track store's fingerprint.
_FREE_SECTIONS = ("optimizer", "loss", "mesh", "checkpoint", "evaluation", "log")
_FREE_KEYS = (
  "data.dump",
  "data.genome",
  "data.stores",
  "data.store_weights",
  "data.store_dir",
  "data.read_threads",
  "data.prefetch",
  "data.reverse_complement",
  "init.checkpoint",
  "init.allow_seen",
  "model.head_dropout",
  "model.head_dropout_of",
  "model.compute_dtype",
  "model.remat",
  "model.remat_policy",
  "train.steps",
  "train.batch_windows",
  "train.accumulate_steps",
)
_SILENT_KEYS = (
  "data.dump",
  "data.genome",
  "data.stores",
  "data.store_dir",
  "data.read_threads",
  "data.prefetch",
  "init.allow_seen",
)
_SILENT_SECTIONS = ("mesh", "checkpoint", "evaluation", "log")


def flat_config(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
  """Flattens nested values by dotted key; lists become tuples, so that JSON compares equal."""
  flat: dict[str, Any] = {}
  for key, value in values.items():
    if isinstance(value, Mapping):
      flat |= flat_config(value, f"{path}{key}.")
    else:
      flat[path + key] = tuple(value) if isinstance(value, list) else value
  return flat


def check_resumable(meta: Mapping[str, Any], config: Config, store_fingerprint: str) -> None:
  """Compares a checkpoint's configuration with this run's; says what else has changed.

  Raises:
    ConfigError: the model, the tracks or the splits differ, or the model lacks a head of today.
  """
  before, now, changed = _compare(meta["config"], config)
  fixed = [k for k in changed if k.split(".")[0] not in _FREE_SECTIONS and k not in _FREE_KEYS]
  advice = "; restore the old values, or choose another --workdir to start a new run"
  if fixed:
    texts = (f"{k} was {before.get(k)!r} and is {now.get(k)!r}" for k in fixed)
    raise ConfigError(f"this work directory holds another run: {', '.join(texts)}{advice}")
  if lacking := [head for head in HEADS if head not in heads_of(meta["config"])]:
    raise ConfigError(
      f"this work directory holds a run of an earlier version, without {' and '.join(lacking)}; "
      "start a new run from it in another --workdir, with --config.init.checkpoint"
    )
  if meta["store_fingerprint"] != store_fingerprint:
    raise ConfigError(
      "this work directory holds a run on other tracks: data.dump or data.genome, the files they "
      f"name, or data.stores have changed{advice}"
    )
  for key in changed:
    if _is_reported(key):
      LOGGER.warning("%s was %r and is now %r", key, before.get(key), now.get(key))


def _compare(
  before: Mapping[str, Any], config: Config
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
  """Returns the flat values of a run and of its next start, and the keys that differ.

  What prepared stores fix is no difference: their values count, and defaults have changed.
  """
  old, new = flat_config(with_new_keys(before)), flat_config(config.to_dict())
  changed = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
  if config.data.stores and old["data.stores"]:
    free = [f"data.{key}" for key in NOT_IN_STORE]
    changed = [k for k in changed if not k.startswith("data.") or k in free]
  return old, new, changed


def _is_reported(key: str) -> bool:
  """Returns whether a changed key makes another run, or at least other steps."""
  return key not in _SILENT_KEYS and key.split(".", maxsplit=1)[0] not in _SILENT_SECTIONS


def is_finished(workdir: AnyPath, config: Config) -> bool:
  """Returns whether a run of this configuration has come to its end in a work directory.

  False where a key differs that a resumed run reports or refuses.
  """
  start = (_starts(workdir) or [{}])[-1]
  end = start.get("end") or {}
  if end.get("status") != 0 or end.get("step", 0) < config.train.steps:
    return False
  return not any(map(_is_reported, _compare(start["config"], config)[2]))


def describe_start(step: int, config: Config, mesh: Mesh, organisms: Organisms) -> dict[str, Any]:
  """Describes what one start of a run was made with.

  Args:
    step: number of steps done before it.
    config: resolved configuration.
    mesh: devices.
    organisms: stores with their inputs and fingerprints.
  """
  devices = mesh.devices.flat
  settings = ("JAX_", "XLA_", "LIBTPU_", "NCCL_")
  return {
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "step": step,
    "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    "versions": {"python": platform.python_version(), **describe_format()["versions"]},
    "git_commit": _git("rev-parse", "HEAD"),
    "git_changes": _git("status", "--porcelain", "--untracked-files=no"),
    "host": platform.node(),
    "devices": f"{len(devices)} x {devices[0].device_kind}",
    "processes": jax.process_count(),
    "mesh": dict(mesh.shape),
    "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(settings)},
    "store_fingerprint": organisms.fingerprint,
    "organisms": [organism.to_json() for organism in organisms.trained],
    "inputs": organisms.inputs,
    "config": config.to_dict(),
  }


def record_start(workdir: AnyPath, start: Mapping[str, Any]) -> None:
  """Adds a start to run.json; those before stay."""
  write_json(workdir / RUN_FILE, {"starts": [*_starts(workdir), start]})


def record_end(workdir: AnyPath, end: Mapping[str, Any]) -> None:
  """Adds to the newest start how it ended; a start that was killed has no end."""
  *before, start = _starts(workdir)
  write_json(workdir / RUN_FILE, {"starts": [*before, {**start, "end": end}]})


def _starts(workdir: AnyPath) -> list[dict[str, Any]]:
  """Reads the starts so far.

  Raises:
    DataError: run.json is broken.
  """
  path = workdir / RUN_FILE
  if not path.exists():
    return []
  try:
    return json.loads(path.read_text(encoding="utf-8"))["starts"]
  except (ValueError, KeyError, TypeError) as error:
    raise DataError(f"{path} is not a record of a run's starts; move it away") from error


def _git(*arguments: str) -> str | None:
  """Asks git about the checkout this package runs from, if it is one."""
  root = Path(__file__).resolve().parents[2]
  if not (root / ".git").exists():
    return None
  try:
    found = subprocess.run(
      ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False, timeout=10
    )
  except (OSError, subprocess.TimeoutExpired):
    return None
  return None if found.returncode else found.stdout.rstrip()


# Exit status of a run that was asked to stop and has saved: EX_TEMPFAIL of sysexits.h, "try again
# later". A scheduler that runs the same command again continues the run.
EXIT_STOPPED = 75


class Interruption:
  """Remembers SIGTERM and SIGINT while active; a second one acts at once. A context manager."""

  def __init__(self) -> None:
    self.signal_name = ""
    self._asked = 0
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> "Interruption":
    # With several processes jax's own handler turns SIGTERM into a step that all agree on.
    watched = (signal.SIGTERM, signal.SIGINT) if jax.process_count() == 1 else (signal.SIGINT,)
    for number in watched:
      self._previous[number] = signal.signal(number, self._remember)
    return self

  def __exit__(self, *_: Any) -> None:
    self._restore()

  def _restore(self) -> None:
    """Gives the signals back their handlers of before."""
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    self._previous.clear()

  def _remember(self, number: int, frame: FrameType | None) -> None:
    """Handles the first signal; the next one finds the handlers of before."""
    self.signal_name = signal.Signals(number).name
    self._restore()
    if jax.process_count() > 1:
      signal.raise_signal(signal.SIGTERM)  # to jax's handler, which tells the other processes

  def requested(self) -> bool:
    """Returns whether to stop here. Every process asks at the same places and gets the same answer.

    Several processes stop at the same question, the first that none of them has asked yet.
    """
    if jax.process_count() == 1:
      return bool(self.signal_name)
    self._asked += 1
    if not multihost_utils.reached_preemption_sync_point(self._asked):
      return False
    self.signal_name = self.signal_name or "a preemption notice"
    return True
