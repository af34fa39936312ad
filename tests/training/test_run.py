"""Whole runs of a stand-in model on a small store: resume, stop, failures."""

import json
import logging
import re
import shutil
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from alphaecoli.checkpoints.read import gene_models_of, read_meta, read_score
from alphaecoli.checkpoints.write import Checkpoints
from alphaecoli.data import pipeline
from alphaecoli.errors import ConfigError, DataError, UserError
from alphaecoli.genomics.gene_models import GeneModels
from alphaecoli.tracks.process import process_data
from alphaecoli.training import loop as loop_module
from alphaecoli.training import monitor as watch_module
from alphaecoli.training.profiler import PHASES
from alphaecoli.training.resume import EXIT_STOPPED
from alphaecoli.training.run import train_on
from tests import stores, toy
from tests.training.small import stand_in, stream, tiny_config, with_mesh

# Reads of a damaged checkpoint that are under way when the first one fails end unheard, in orbax.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# What differs between two runs of the same steps: time and memory.
TIMED = re.compile("goodput/|memory/|step_seconds/|mfu|.*_per_s|seconds_left|time")


class Killed(BaseException):
  """Stands for a process that dies: nothing after it may run."""


def _config(**overrides):
  return with_mesh(tiny_config(**overrides), 4, 2)


def _records(workdir, kind="train"):
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return [
    {k: v for k, v in line.items() if not TIMED.match(k)} for line in lines if line["kind"] == kind
  ]


def _arrays(workdir, step):
  """Every array of a checkpoint, by name."""
  found = {}
  folder = workdir / "checkpoints" / str(step)
  for item in ("params", "stats", "train"):
    with ocp.StandardCheckpointer() as reader:
      restored = reader.restore(folder / item)
    for path, leaf in jax.tree_util.tree_leaves_with_path(restored):
      found[item + jax.tree_util.keystr(path)] = np.asarray(leaf)
  return found


def _at_step(monkeypatch, number, action):
  """Calls an action when a run adds the figures of a step."""
  add = watch_module.Watch.add

  def acting(self, step, metrics):
    add(self, step, metrics)
    if step == number:
      action()

  monkeypatch.setattr(loop_module.Watch, "add", acting)


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
  """The work directory of an undisturbed run of 8 steps; do not change it."""
  workdir = tmp_path_factory.mktemp("run")
  assert train_on(store, _config(), workdir, stand_in()) == 0
  return workdir


def test_a_killed_run_continues_bit_for_bit(store, finished, tmp_path, monkeypatch):
  def die():
    raise Killed

  with monkeypatch.context() as patch:
    _at_step(patch, 7, die)
    with pytest.raises(Killed):
      train_on(store, _config(), tmp_path, stand_in())
  assert _records(tmp_path)[-1]["step"] == 6  # logged, but later than the last checkpoint
  with Checkpoints(tmp_path / "checkpoints", keep_last=3, keep_best=1) as checkpoints:
    assert checkpoints.steps == [4]
  assert train_on(store, _config(), tmp_path, stand_in()) == 0
  expected, found = _arrays(finished, 8), _arrays(tmp_path, 8)
  assert expected.keys() == found.keys() and len(expected) > 20
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  assert _records(tmp_path) == _records(finished)
  assert _records(tmp_path, "validation") == _records(finished, "validation")


def test_a_finished_run_is_only_evaluated_again(store, finished, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(finished, workdir)
  assert train_on(store, _config(), workdir, stand_in()) == 0
  assert _records(workdir) == _records(finished)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_saves_and_the_same_command_goes_on(
  store, finished, tmp_path, monkeypatch, caplog, number
):
  caplog.set_level(logging.INFO, "alphaecoli")
  before = signal.getsignal(number)
  with monkeypatch.context() as patch:
    _at_step(patch, 3, lambda: signal.raise_signal(number))
    assert train_on(store, _config(), tmp_path, stand_in()) == EXIT_STOPPED
  assert f"stopped by {number.name} after step 3 of 8" in caplog.text
  assert signal.getsignal(number) is before
  assert (tmp_path / "checkpoints" / "3").is_dir()
  assert train_on(store, _config(), tmp_path, stand_in()) == 0
  expected, found = _arrays(finished, 8), _arrays(tmp_path, 8)
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  assert _records(tmp_path) == _records(finished)
  assert _records(tmp_path, "validation") == _records(finished, "validation")
  starts = json.loads((tmp_path / "run.json").read_text())["starts"]
  assert [(s["step"], s["end"]["status"], s["end"]["step"]) for s in starts] == [
    (0, EXIT_STOPPED, 3),
    (3, 0, 8),
  ]


@pytest.mark.parametrize("step", [4, 8], ids=["in the middle", "at the end"])
def test_a_signal_at_an_evaluation_saves_first_and_evaluates_when_the_run_goes_on(
  store, tmp_path, monkeypatch, step
):
  """Twice, so that the evaluation that was put off is cut short once more."""
  config = _config(evaluation__every_steps=4, checkpoint__every_steps=8)
  assert train_on(store, config, tmp_path / "straight", stand_in()) == 0
  workdir = tmp_path / "stopped"
  workdir.mkdir()
  with monkeypatch.context() as patch:
    _at_step(patch, step, lambda: signal.raise_signal(signal.SIGTERM))
    assert train_on(store, config, workdir, stand_in()) == EXIT_STOPPED
  assert (workdir / "checkpoints" / str(step)).is_dir()
  assert step not in [r["step"] for r in _records(workdir, "validation")]
  original = loop_module.Loop._report

  def interrupted(self):
    signal.raise_signal(signal.SIGTERM)
    return original(self)

  with monkeypatch.context() as patch:
    patch.setattr(loop_module.Loop, "_report", interrupted)
    assert train_on(store, config, workdir, stand_in()) == EXIT_STOPPED
  assert train_on(store, config, workdir, stand_in()) == 0
  for kind in ("train", "validation"):
    assert _records(workdir, kind) == _records(tmp_path / "straight", kind)
  kept = [
    read_meta(f / "checkpoints" / "8")["gene_models"] for f in (workdir, tmp_path / "straight")
  ]
  assert kept[0] == kept[1] != {}
  for folder in (workdir, tmp_path / "straight"):
    scores = {p.name: read_score(p) for p in (folder / "checkpoints").iterdir()}
    measured = {r["step"]: r["loss/total"] for r in _records(folder, "validation")}
    assert scores == {name: measured[int(name)] for name in scores} and "8" in scores


def test_a_measured_checkpoint_holds_the_gene_models_of_its_organism(store, finished, tmp_path):
  meta = read_meta(finished / "checkpoints" / "8")
  model = gene_models_of(meta, store.organism).pairs
  assert {"gap", "terminator"} <= model.weights.keys()  # too few pairs to weigh the junction's
  (record,) = _records(finished, "validation")
  assert 0 <= record["operon_pairs/annotated_auroc"] <= 1
  assert "gene_models" not in read_meta(finished / "checkpoints" / "4")  # not measured
  unmeasured = gene_models_of(read_meta(finished / "checkpoints" / "4"), store.organism)
  assert unmeasured == GeneModels()


def test_more_steps_continue_a_finished_run(store, finished, tmp_path, caplog):
  caplog.set_level(logging.INFO, "alphaecoli")
  workdir = tmp_path / "copy"
  shutil.copytree(finished, workdir)
  assert train_on(store, _config(train__steps=10), workdir, stand_in()) == 0
  assert "train.steps was 8 and is now 10" in caplog.text
  assert [r["step"] for r in _records(workdir)] == [2, 4, 6, 8, 10]


def test_another_mesh_continues_with_the_same_losses(store, finished, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(finished, workdir)
  shutil.rmtree(workdir / "checkpoints" / "8")
  assert train_on(store, with_mesh(_config(), 2, 4), workdir, stand_in()) == 0
  for a, b in zip(_records(finished), _records(workdir), strict=True):
    for name, value in a.items():
      if name != "kind":
        np.testing.assert_allclose(b[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_another_model_is_refused_by_key(store, finished, tmp_path):
  config = _config(model__channels=16, train__seed=5)
  with pytest.raises(ConfigError, match=r"model.channels was 8 and is 16, train.seed was 0 and"):
    train_on(store, config, finished, stand_in())


def test_other_tracks_are_refused(store, finished, monkeypatch):
  changed = type(store)(store.path, {**store.manifest, "fingerprint": "another"})
  with pytest.raises(ConfigError, match="other tracks"):
    train_on(changed, _config(), finished, stand_in())


def _damage(step_dir, kind="cut"):
  """Harms every data file of a checkpoint's parameters."""
  files = [p for p in (step_dir / "params").rglob("*") if p.is_file() and p.parent.name == "d"]
  assert files
  for path in files:
    content = bytearray(path.read_bytes())
    if kind == "cut":
      path.write_bytes(content[: len(content) // 2])
    elif kind == "altered":
      content[len(content) // 2] ^= 1
      path.write_bytes(content)
    else:
      path.unlink()


@pytest.mark.parametrize("kind", ["cut", "altered", "missing"])
def test_a_damaged_newest_checkpoint_is_passed_over_loudly(store, finished, tmp_path, caplog, kind):
  workdir = tmp_path / "copy"
  shutil.copytree(finished, workdir)
  _damage(workdir / "checkpoints" / "8", kind)
  assert train_on(store, _config(), workdir, stand_in()) == 0
  assert "checkpoint 8 is damaged" in caplog.text and "ERROR" in caplog.text
  expected, found = _arrays(finished, 8), _arrays(workdir, 8)
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_damaged_score_is_said_and_does_not_keep_the_run_from_going_on(
  store, finished, tmp_path, caplog
):
  workdir = tmp_path / "copy"
  shutil.copytree(finished, workdir)
  (workdir / "checkpoints" / "8" / "metrics" / "metrics").write_text('{"loss')
  assert train_on(store, _config(train__steps=9), workdir, stand_in()) == 0
  assert "checkpoints/8/metrics/metrics is damaged or missing" in caplog.text
  assert read_score(workdir / "checkpoints" / "9") is not None


def test_when_every_checkpoint_is_damaged_nothing_starts_afresh(store, finished, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(finished, workdir)
  for step in (4, 8):
    _damage(workdir / "checkpoints" / str(step))
  with pytest.raises(DataError, match=r"none of the checkpoints \[4, 8\] in .* can be read"):
    train_on(store, _config(), workdir, stand_in())


def test_a_loss_that_is_not_finite_stops_the_run_and_names_head_step_and_windows(
  store, finished, tmp_path, monkeypatch
):
  """From checkpoint 4 on, targets of the windows of step 7 are made infinite."""
  workdir = tmp_path / "copy"
  shutil.copytree(finished, workdir)
  shutil.rmtree(workdir / "checkpoints" / "8")
  config = _config()
  batches = stream(config, store, first_step=6)
  windows = next(batches)
  batches.close()

  class Poisoned(pipeline.Batches):
    def __next__(self):
      batch = super().__next__()
      if self.state == 7:  # the batch of the seventh step
        batch["gene_density"][:] = np.inf
      return batch

  monkeypatch.setattr(pipeline, "Batches", Poisoned)
  first = f"{windows['start'][0]}{'-' if windows['reverse'][0] else '+'}"
  with pytest.raises(UserError) as failure:
    train_on(store, config, workdir, stand_in())
  text = str(failure.value)
  assert "loss of gene_density is inf at step 7" in text and f"strand) {first}, " in text
  assert "last good checkpoint: step 4" in text and "\n" not in text
  assert not (workdir / "checkpoints" / "8").exists()


def test_the_work_directory_describes_the_run(store, finished):
  config = json.loads((finished / "config.json").read_text())
  (run,) = json.loads((finished / "run.json").read_text())["starts"]
  assert config["train"]["steps"] == 8 and run["mesh"] == {"data": 4, "fsdp": 2, "sequence": 1}
  assert run["store_fingerprint"] == store.fingerprint and "jax" in run["versions"]
  assert len(run["inputs"]["genome"]["sha256"]) == 64 and run["config"] == config
  assert run["git_commit"] is None or len(run["git_commit"]) == 40
  assert "XLA_FLAGS" in run["environment"] and run["end"]["goodput/steps"] > 0
  last = [json.loads(x) for x in (finished / "metrics.jsonl").read_text().splitlines()][-2]
  for name in ("loss/total", "loss/gene_expression", "mean_loss/total", "grad_norm"):
    assert np.isfinite(last[name])
  for name in ("learning_rate", "windows_per_s", "bases_per_s", "seconds_left"):
    assert last[name] >= 0
  shares = [value for name, value in last.items() if name.startswith("goodput/")]
  assert len(shares) == 6 and min(shares) >= 0 and sum(shares) == pytest.approx(1)
  times = run["end"]["step_seconds"]
  assert 0 < times["median"] <= times["p95"] <= times["slowest"] and 1 <= times["slowest_step"] <= 8
  assert times["slowest_cause"] in (*PHASES, "step")
  assert 0 < last["step_seconds/median"] <= last["step_seconds/p95"] <= last["step_seconds/slowest"]
  assert last["model_flops_per_s_and_device"] > 0 and "mfu" not in last  # a CPU has no known peak
  assert 2**26 < last["memory/host_peak_bytes"] < 2**40
  assert json.loads((finished / "validation.json").read_text())["step"] == 8


def test_without_expression_data_the_other_heads_are_trained(tmp_path, caplog):
  dump = toy.write_random(tmp_path / "dump", 120_000)
  for path in (dump.dump / "regulondbht").glob("geneExpression*"):
    path.unlink()
  store = process_data(stores.toy_config(dump), tmp_path)
  workdir = tmp_path / "run"
  workdir.mkdir()
  assert train_on(store, _config(train__steps=2), workdir, stand_in()) == 0
  assert "the data have no gene_expression" in caplog.text
  (record,) = _records(workdir)
  assert "loss/gene_density" in record and "loss/gene_expression" not in record


def test_a_run_in_which_nothing_would_learn_is_refused(tmp_path, store):
  tracks = {**store.manifest["tracks"], "has_operons": False}
  changed = type(store)(store.path, {**store.manifest, "tracks": tracks})
  heads = ("gene_expression", "gene_density", "gene_structure")
  config = tiny_config(**{f"loss__weights__{head}": 0.0 for head in heads})
  with pytest.raises(UserError, match="nothing to train"):
    train_on(changed, with_mesh(config, 8), tmp_path, stand_in())
