"""One accelerator measured and put to use, unattended: what launch/accelerator.sh runs.

Stages follow each other, each in a process of its own, which is killed at its limit. A stage has
parts (`accelerator_stages`); its process notes in a file when each begins and what it found. After
every part accelerator.json and accelerator.md are written anew, so that a run that is cut short
still tells what it found. The process that starts the others never touches the accelerator.
"""

import argparse
import gzip
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alphaecoli import cli
from alphaecoli.benchmarks.accelerator_stages import SMALL_BP, TRACE, WEIGHTS, Run, parts_of
from alphaecoli.benchmarks.accelerator_table import markdown
from alphaecoli.benchmarks.step import best_variant
from alphaecoli.config import configs_dir, from_arguments
from alphaecoli.errors import ConfigError, reason_of
from alphaecoli.files import hash_file, make_folder, write_json, write_text

DESCRIPTION = """\
Measures one accelerator and trains on it, in a given time and unattended. Every stage has its share
of the minutes, and what one leaves goes to those after it:

  device    names, versions, memory; rates of a matrix product and of a copy
  checks    bfloat16 convolutions against float32; small blocks and gradients against the CPU's
  step      the training step of configs/regulondb.py in several settings; a trace of the best
  predict   a whole genome, and one window of 1 Mb
  trunk     the trunk at the published size against the CPU's
  train     folds of a configuration, one after the other, each measured on its test split

The other arguments are the configuration that is trained, by default configs/quickstart.py:
--config FILE --config.section.key=value. What comes out: docs/launch.md.
"""
# Of the minutes left, among those after it. The first always runs, and may find a cold disk.
SHARES = {"device": 25, "checks": 15, "step": 40, "predict": 12, "trunk": 10, "train": 25}
PART_SHARE = 0.7  # of a stage's limit that one of its parts may take, where others follow
ALIKE = ("step", "train")  # whose parts are of one kind: the first that is done is worth most
LEAST_S, CLOSING_S, _POLL_S = 5.0, 10.0, 0.2  # worth starting a process; for the last files
PIECE_BYTES = 1 << 24  # of a file that is brought back
METRICS_FILE = "metrics.jsonl"  # of a training run; its module imports JAX
REPORT, TABLE, LOG = "accelerator.json", "accelerator.md", "log.txt"
TRACE_FILE, ARCHIVE = "trace.xplane.pb.gz", "weights.tar"
# All but what CUDA's libraries take of a GPU's memory; programs, the many small ones too, compiled
# once for all stages.
_ENVIRONMENT = {"XLA_CLIENT_MEM_FRACTION": "0.92", "PYTHONUNBUFFERED": "1",
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}  # fmt: skip
_REHEARSAL = (f"data.window_bp={SMALL_BP}", "model.n_layers=1", "train.steps=2",
              "train.batch_windows=2", "evaluation.both_strands=False")  # fmt: skip


def main(arguments: Sequence[str]) -> int:
  """Runs the stages, or, called by itself, the parts of one."""
  add = (parser := cli.parser("benchmarks.accelerator", DESCRIPTION)).add_argument
  add("--rehearse", action="store_true", help="all stages at small sizes, on any device")
  add("--minutes", type=float, default=9.0, help="for everything together (default 9)")
  add("--stages", default=",".join(SHARES), help="those to run, as checks,step; default: all")
  add("--out", type=Path, default=Path("runs/accelerator"), help="receiver of the few files")
  add("--work", type=Path, help="receiver of all else; given again, folds and programs are kept")
  add("--spent", type=float, default=0.0, help=argparse.SUPPRESS)  # seconds, before this process
  add("--part-of", choices=list(SHARES), help=argparse.SUPPRESS)
  flags, rest = parser.parse_known_args(arguments)
  named = any(a == "--config" or a.startswith("--config=") for a in rest)
  defaults = [] if named else [f"--config={configs_dir() / 'quickstart.py'}"]
  defaults += [f"--config.{value}" for value in _REHEARSAL] if flags.rehearse else []
  recipe, name = from_arguments([*defaults, *rest], test_mode=flags.rehearse)
  if flags.part_of:
    return run_parts(flags.part_of, Run(flags.work, flags.rehearse, recipe, {}))
  chosen = flags.stages.split(",")
  if not SHARES.keys() >= set(chosen) or flags.minutes <= 0:
    raise ConfigError(f"--stages={flags.stages}, --minutes={flags.minutes:g}; expected more than 0 "
                      f"minutes, and stages of {','.join(SHARES)}")  # fmt: skip
  flags.work = flags.work or Path(tempfile.mkdtemp(prefix="alphaecoli-accelerator-"))
  make_folder(flags.out)
  make_folder(flags.work)
  run = Run(flags.work.absolute(), flags.rehearse, recipe, {})
  head = {"rehearsal": flags.rehearse, "minutes": flags.minutes, "recipe": name}
  stages, seconds = [stage for stage in SHARES if stage in chosen], 60 * flags.minutes - flags.spent
  return Session(run, flags.out, head, arguments).run(stages, seconds)


def run_parts(stage: str, run: Run) -> int:
  """Runs the parts of a stage that are not noted yet; the exit status is 1 after one that failed.

  After a fault a device may answer nothing any more: another process goes on with the next part.
  """
  path = notes_file(run.work, stage)
  results: dict[str, Any] = {}
  noted = {note["part"]: note for note in read_notes(path)}
  for name, part in parts_of(stage, run).items():
    if name in noted:
      results |= {name: noted[name]["result"]} if "result" in noted[name] else {}
      continue
    add_note(path, {"part": name, "began": time.time()})
    started = time.perf_counter()
    try:
      results[name] = _finite(part(Run(run.work, run.rehearse, run.recipe, results)))
    except Exception as error:  # whatever it is, the other parts are to run
      traceback.print_exc()
      text = f"{type(error).__name__}: {reason_of(error, 300)}"
      add_note(path, {"part": name, "seconds": time.perf_counter() - started, "error": text})
      return 1
    note = {"seconds": time.perf_counter() - started, "result": results[name]}
    add_note(path, {"part": name, **note})
  return 0


def notes_file(work: Path, stage: str) -> Path:
  """Returns the path of the notes of a stage: a line of JSON each."""
  return work / f"{stage}.jsonl"


def add_note(path: Path, note: Mapping[str, Any]) -> None:
  """Adds a line to the notes of a stage."""
  with path.open("a") as file:
    file.write(json.dumps(note) + "\n")


def read_notes(path: Path) -> list[dict[str, Any]]:
  """Reads the notes of a stage; a line that is still being written is left out."""
  lines = path.read_text().splitlines(keepends=True) if path.exists() else []
  return [json.loads(line) for line in lines if line.endswith("\n")]


def _finite(value: Any) -> Any:
  """Returns plain values with None in place of NaN and infinity, for which JSON has no words."""
  if isinstance(value, Mapping):
    return {str(key): _finite(inner) for key, inner in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(inner) for inner in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


class Session:
  """One run of the stages."""

  def __init__(self, run: Run, out: Path, head: Mapping[str, Any], arguments: Sequence[str]):
    """Prepares a run, with the first entries of its report and its command line."""
    self._run, self._out, self._arguments = run, out, list(arguments)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    self._report: dict[str, Any] = {**head, "started": started, "stages": {}, "files": []}
    self._folds: set[str] = set()  # those in the archive
    self._command = [sys.executable, "-m", "alphaecoli.benchmarks.accelerator"]

  def run(self, stages: Sequence[str], seconds: float) -> int:
    """Runs stages in some seconds; returns 0 where each part of each of them found something."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and end the stage
    for old in (*self._pieces(), *self._out.glob(LOG)):
      old.unlink()
    ends = time.monotonic() + max(seconds - CLOSING_S, LEAST_S)
    stages = ["device", *(stage for stage in stages if stage != "device")]
    for i, stage in enumerate(stages):
      share = SHARES[stage] / sum(SHARES[later] for later in stages[i:])
      self._stage(stage, share * (ends - time.monotonic()))
      if (found := self._parts(stage).get("device", {})).keys() >= {"error", "seconds"}:
        cli.LOGGER.error("nothing else is run: %s", found["error"])  # it failed by itself
        return 1
    cli.LOGGER.info("wrote %s; all else is in %s", self._out / TABLE, self._run.work)
    return int(any("error" in part for stage in stages for part in self._parts(stage).values()))

  def _parts(self, stage: str) -> dict[str, Any]:
    """Returns what is noted of the parts of a stage."""
    return self._report["stages"][stage]["parts"]

  def _stage(self, stage: str, limit: float) -> None:
    """Runs the parts of a stage, in as many processes as it takes."""
    path, names = notes_file(self._run.work, stage), list(parts_of(stage, self._run))
    path.unlink(missing_ok=True)
    started, why = time.monotonic(), "its stage's time was spent"
    part_limit = limit if stage in ALIKE or len(names) == 1 else PART_SHARE * limit
    self._report["stages"][stage] = {"limit_s": round(limit, 1), "parts": {}}
    cli.LOGGER.info("%s: at most %.0f s", stage, limit)
    while (left := started + limit - time.monotonic()) > LEAST_S:
      before = len(read_notes(path))
      reason = self._process(stage, left, part_limit)
      notes = read_notes(path)
      if notes and "began" in notes[-1]:
        part = notes[-1]["part"]
        add_note(path, {"part": part, "error": reason + self._reached(stage, part)})
      if not reason:
        break
      if len(notes) == before:
        why = reason
        break
    noted = {note["part"] for note in read_notes(path)}
    for name in names:
      if name not in noted:
        add_note(path, {"part": name, "error": f"not run: {why}"})
    self._report["stages"][stage]["seconds"] = round(time.monotonic() - started, 1)
    self._publish(stage)

  def _reached(self, stage: str, part: str) -> str:
    """Says how far a training came that is not done; a run with the same --work goes on there."""
    records = read_notes(self._run.work / "train" / part / METRICS_FILE) if stage == "train" else []
    last = next((record for record in reversed(records) if record["kind"] == "train"), None)
    if last is None:
      return ""
    steps = self._run.recipe.train.steps
    return f"; at step {last['step']} of {steps}, {last['windows_per_s']:.3g} windows/s"

  def _process(self, stage: str, limit: float, part_limit: float) -> str:
    """Runs a process of a stage; returns why it did not come to its end, or nothing."""
    work = str(self._run.work)
    command = [*self._command, *self._arguments, "--part-of", stage, "--work", work]
    with (self._out / LOG).open("ab") as log:
      process = subprocess.Popen(
        command,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=self._environment(),
        start_new_session=True,
      )
    ends, known, path = time.monotonic() + limit, -1, notes_file(self._run.work, stage)
    try:
      while process.poll() is None:
        notes = read_notes(path)
        if len(notes) != known:
          known = len(notes)
          self._publish(stage)
        began = notes[-1].get("began", math.inf) if notes else math.inf
        if time.monotonic() > ends:
          return f"cut at the limit of its stage, {limit:.0f} s"
        if time.time() - began > part_limit:
          return f"cut at its limit of {part_limit:.0f} s"
        time.sleep(_POLL_S)
    finally:
      if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return f"its process ended with status {process.returncode}" if process.returncode else ""

  def _environment(self) -> dict[str, str]:
    """Returns the environment of a stage's process; what the user has set wins."""
    small = {"XLA_FLAGS": "--xla_backend_optimization_level=0"} if self._run.rehearse else {}
    cache = {"JAX_COMPILATION_CACHE_DIR": str(self._run.work / "cache")}
    found = {**_ENVIRONMENT, **small, **cache, **os.environ}
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" in found:  # the old name, which JAX takes alone
      del found["XLA_CLIENT_MEM_FRACTION"]
    platforms = "cpu" if self._run.rehearse else found.get("JAX_PLATFORMS", "")
    if platforms:  # a CPU is always needed: the results are compared with its
      found["JAX_PLATFORMS"] = ",".join(dict.fromkeys([*platforms.split(","), "cpu"]))
    return found

  def _publish(self, stage: str) -> None:
    """Writes the report, its table and new files."""
    parts = self._parts(stage)
    for note in read_notes(notes_file(self._run.work, stage)):
      found = {key: note[key] for key in ("seconds", "result", "error") if key in note}
      parts[note["part"]] = found or {"error": "not finished"}
    results = {name: part["result"] for name, part in parts.items() if "result" in part}
    if stage == "step":
      self._report["best"] = best_variant(results)
    if stage == "step" and TRACE in results and not self._pieces(TRACE_FILE):
      self._pack_trace()
    if stage == "train" and self._folds < (folds := set(results)):
      self._pack_weights(sorted(folds))
    write_json(self._out / REPORT, self._report)
    write_text(self._out / TABLE, markdown(self._report))

  def _pack_trace(self) -> None:
    """Adds the trace to the files."""
    newest, packed = max((self._run.work / TRACE).rglob("*.xplane.pb")), self._run.work / TRACE_FILE
    with newest.open("rb") as source, gzip.open(packed, "wb") as target:
      shutil.copyfileobj(source, target)
    self._add_file(packed)

  def _pack_weights(self, folds: Sequence[str]) -> None:
    """Adds the checkpoints of folds to the files, as one archive."""
    self._folds, packed = set(folds), self._run.work / ARCHIVE
    ensemble = [path.name for path in (self._run.work / WEIGHTS).glob("*.json") if len(folds) > 1]
    with tarfile.open(packed, "w") as archive:
      for name in (*folds, *ensemble):
        archive.add(self._run.work / WEIGHTS / name, name)
    self._add_file(packed)

  def _add_file(self, path: Path) -> None:
    """Copies a file to those that are brought back, in pieces where it is large."""
    for old in self._pieces(path.name):
      old.unlink()
    whole = path.stat().st_size <= PIECE_BYTES
    with path.open("rb") as source:
      for i, piece in enumerate(iter(lambda: source.read(PIECE_BYTES), b"")):
        (self._out / (path.name if whole else f"{path.name}.{i:02}")).write_bytes(piece)
    self._report["files"] = [
      {"name": file.name, "bytes": file.stat().st_size, "sha256": hash_file(file)}
      for file in self._pieces()
    ]

  def _pieces(self, *names: str) -> list[Path]:
    """Lists the files of these names that are brought back, whole or in pieces; by default all."""
    names = names or (TRACE_FILE, ARCHIVE)
    return [path for name in names for path in sorted(self._out.glob(f"{name}*"))]


if __name__ == "__main__":
  cli.run(main)
