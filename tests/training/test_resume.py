"""Runs that are killed at random moments end as if they never were; what a full disk does."""

import json
import os
import random
import re
import subprocess
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from alphaecoli import config as configuration
from alphaecoli.checkpoints import write as checkpoints
from alphaecoli.checkpoints.read import read_meta, read_score
from alphaecoli.errors import ConfigError
from alphaecoli.training import loop
from alphaecoli.training.resume import check_resumable
from tests import processes, toy
from tests.parallel import distributed_run
from tests.training.test_run import TIMED

STEPS, DEVICES = 40, 2
REAL = {
  "data.min_genes_per_unit": 1,
  "data.window_bp": 2048,
  "model.channels": 4,
  "model.channel_step": 2,
  "model.n_layers": 1,
  "model.n_heads": 1,
  "model.key_dim": 4,
  "model.head_dropout": 0.2,
  "mesh.fsdp": DEVICES,
  "train.steps": STEPS,
  "checkpoint.every_steps": 3,
  "evaluation.every_steps": 15,
  "log.every_steps": 4,  # so that most checkpoints lie between log lines
  "log.tensorboard": False,
  "log.compilation_cache": False,  # one for all work directories instead
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """A dump and a genome."""
  return toy.write_random(tmp_path_factory.mktemp("dump"), 120_000, 0)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
  """Compiled programs, shared by the processes of this session."""
  directory = tmp_path_factory.getbasetemp() / "cache"
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(directory))
  monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
  monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


class Run:
  """A training run in a process of its own, started as often as needed."""

  def __init__(self, workdir, module, arguments, devices):
    self.workdir, self.module, self.devices = workdir, module, devices
    self.arguments = ["--workdir", str(workdir), *map(str, arguments)]
    self.starts = 0

  def start(self):
    self.starts += 1
    self.logs = self.workdir.parent / f"{self.workdir.name}-logs" / str(self.starts)
    return processes.start(self.module, self.arguments, 1, self.devices, self.logs)

  def finish(self):
    """Runs to the end."""
    assert processes.finish(self.start(), self.logs) == [0], self.log()

  def log(self):
    """What the newest start has written."""
    return (self.logs / "0.txt").read_text()

  def ready(self):
    """Whether the state is there, and what an earlier start left of a save is not."""
    return "continuing after" in self.log() or "starting at" in self.log()

  def committed(self):
    """Steps that have a checkpoint."""
    names = [path.name for path in (self.workdir / "checkpoints").glob("*")]
    return {int(name) for name in names if name.isdecimal()}

  def saving(self):
    """Whether a save is under way, or was cut short."""
    return any((self.workdir / "checkpoints").glob("*tmp*"))

  def kill(self, moment, rng):
    """Starts once more and kills; returns whether that cut a save short.

    Args:
      moment: start (importing, restoring, compiling), save, or step (anything after a save).
      rng: decides exactly when.
    """
    (process,) = self.start()
    try:
      if moment == "start":
        _wait(process, lambda: False, rng.uniform(0, 15))
      else:
        _wait(process, self.ready)
        before = self.committed()
        _wait(process, self.saving)
        if moment == "step":
          _wait(process, lambda: self.committed() - before)
        _wait(process, lambda: False, rng.uniform(0, 0.1 if moment == "save" else 0.5))
    finally:
      process.kill()
      process.wait()
    return self.saving()

  def records(self):
    """The lines of metrics.jsonl but for times."""
    lines = (self.workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if not TIMED.match(k)} for x in lines]

  def checkpoint(self, step):
    """Every array of a checkpoint by name, its meta item and its score."""
    path = self.workdir / "checkpoints" / str(step)
    found = {}
    for item in ("params", "stats", "train"):
      with ocp.StandardCheckpointer() as reader:
        restored = reader.restore(path / item)
      for key, leaf in jax.tree_util.tree_leaves_with_path(restored):
        found[item + jax.tree_util.keystr(key)] = np.asarray(leaf)
    return found, read_meta(path), read_score(path)


def _wait(process: subprocess.Popen, condition, seconds: float = processes.SECONDS) -> None:
  """Until a condition holds, the process has ended or time is up."""
  deadline = time.monotonic() + seconds
  while process.poll() is None and time.monotonic() < deadline and not condition():
    time.sleep(0.002)


def same(found: Run, expected: Run, step: int) -> None:
  """Same parameters, optimiser, statistics, data position, records and scores, bit for bit."""
  (ours, meta, score), (arrays, *rest) = found.checkpoint(step), expected.checkpoint(step)
  assert ours.keys() == arrays.keys() and len(arrays) > 20
  for name, value in arrays.items():
    np.testing.assert_array_equal(ours[name], value, err_msg=name)
  assert [meta, score] == rest
  assert found.records() == expected.records()
  assert found.committed() == expected.committed()


def test_a_killed_run_ends_as_if_it_never_was(data, tmp_path, monkeypatch):
  monkeypatch.setattr(loop.Watch, "add", loop.Watch.add)  # the run wraps these
  monkeypatch.setattr(checkpoints, "read_item", checkpoints.read_item)
  monkeypatch.setattr(loop.Loop, "_until_stopped", loop.Loop._until_stopped)
  arguments = ["--dump", data.dump, "--genome", data.fasta]
  arguments += ["--mesh", "4,2,1", "--steps", 5, "--slow", 0.2]
  straight, killed = (
    Run(tmp_path / name, "tests.parallel.distributed_run", arguments, 8)
    for name in ("straight", "killed")
  )
  for run in (straight, killed):
    run.workdir.mkdir()
  assert distributed_run.main(straight.arguments) == 0
  seed = random.randrange(10**6)
  cut = killed.kill("step", random.Random(seed))
  print(f"seed {seed}, save cut short {cut}, checkpoints {killed.committed()}:", killed.log())
  killed.finish()
  assert "continuing after step" in killed.log()
  same(killed, straight, 5)


def test_a_disk_that_takes_no_more_ends_the_run_with_one_line_and_keeps_the_last_save(
  data, tmp_path
):
  arguments = ["--dump", data.dump, "--genome", data.fasta, "--mesh", "1,1,1", "--steps", 40]
  arguments += ["--full-from", 3, "--log-every", 100]
  run = Run(tmp_path / "run", "tests.parallel.distributed_run", arguments, 1)
  assert processes.finish(run.start(), run.logs) == [1], run.log()
  (line,) = [line for line in run.log().splitlines() if "error:" in line]
  assert re.search(r"^error: .* was not saved: .*(File too large|EFBIG)", line)
  assert run.committed() == {2}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_ten_kills_of_the_real_model_change_nothing(data, tmp_path):
  arguments = ["--test-mode", f"--config.data.dump={data.dump}"]
  arguments += [f"--config.data.genome={data.fasta}"]
  arguments += [f"--config.{key}={value}" for key, value in REAL.items()]
  straight, killed = (
    Run(tmp_path / name, "alphaecoli.train", arguments, DEVICES) for name in ("straight", "killed")
  )
  straight.finish()
  seed = int(os.environ.get("KILL_SEED", random.randrange(10**6)))
  rng = random.Random(seed)
  moments = ["save"] * 5 + ["step"] * 3 + ["start"] * 2
  rng.shuffle(moments)
  history = []
  for moment in moments:
    history.append((moment, killed.kill(moment, rng), max(killed.committed(), default=0)))
  print(f"KILL_SEED={seed}: (moment, save cut short, newest checkpoint) {history}")
  assert sum(cut for _, cut, _ in history) >= 3 and history[-1][2] < STEPS
  killed.finish()
  same(killed, straight, STEPS)


def test_a_run_of_before_a_head_is_not_resumed():
  config = configuration.resolve(configuration.base_config())
  older = config.to_dict()
  del older["loss"]["weights"]["gene_structure"]
  meta = {"config": older, "store_fingerprint": "f"}
  with pytest.raises(ConfigError, match=r"earlier version, without gene_structure; .*init\.check"):
    check_resumable(meta, config, "f")
  check_resumable({"config": config.to_dict(), "store_fingerprint": "f"}, config, "f")
