"""The command over three folds of a toy chromosome with a stand-in model, two steps each."""

import csv
import json
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from alphaecoli import crossvalidate
from alphaecoli.api import load_predictor
from alphaecoli.checkpoints.read import find_checkpoint, read_meta
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.evaluation import folds
from alphaecoli.evaluation import run as evaluation_run
from alphaecoli.evaluation.folds import divided_as_prepared, fold_config, write_fold
from alphaecoli.evaluation.rival_fits import Value
from alphaecoli.evaluation.rivals import DESCRIPTIONS, Rivals
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.model.layers import Keys
from alphaecoli.model.model import AlphaEcoli
from alphaecoli.predict import _open_store
from alphaecoli.schema import HEADS
from alphaecoli.tracks.organisms import find_store, open_organisms
from alphaecoli.tracks.replicons import divided
from alphaecoli.tracks.store import open_store
from alphaecoli.training import loop
from alphaecoli.training.resume import EXIT_STOPPED
from tests import toy
from tests.stores import config_of, random_store
from tests.training.small import TINY, StandIn

LENGTH_BP = 30_000
FIRST_BP = 5_000  # where the first block begins: half a block after the origin
SMALLEST = {
  **TINY,
  "data.n_blocks": 3,
  "data.n_folds": 3,
  "train.steps": 2,
  "evaluation.every_steps": 2,
  "log.every_steps": 1,
  "loss.weights.gene_structure": 0.0,  # the stand-in has no auxiliary heads
  "loss.weights.operon_junction": 0.0,
}
OUTPUTS = (
  "crossvalidation.json", "crossvalidation.tsv", "out_of_fold.npz", "out_of_fold_genes.tsv",
  "out_of_fold_pairs.tsv",
)  # fmt: skip


def cross_validation_arguments(folder: Path) -> list[str]:
  """A dump, a configuration file of it, and the arguments that name them."""
  dump = toy.write_random(folder / "dump", LENGTH_BP)
  values = {
    **SMALLEST,
    "data.dump": str(dump.dump),
    "data.genome": str(dump.fasta),
    "data.min_genes_per_unit": dump.min_genes_per_unit,
  }
  file = folder / "tiny.py"
  file.write_text(
    "from alphaecoli.config import apply_overrides, base_config\n\n\n"
    "def get_config():\n"
    "  config = base_config()\n"
    f"  apply_overrides(config, {values!r})\n"
    "  return config\n"
  )
  return [f"--config={file}", f"--workdir={folder / 'all'}"]


def _rows(path: Path) -> list[dict[str, str]]:
  with open(path, newline="") as file:
    return list(csv.DictReader(file, delimiter="\t"))


def _starts(folder: Path) -> list[tuple[int, int, int]]:
  starts = json.loads((folder / "run.json").read_text())["starts"]
  return [(s["step"], s["end"]["status"], s["end"]["step"]) for s in starts]


def _stop_after_step_1(monkeypatch):
  add = loop.Watch.add

  def stopping(self, step, metrics):
    add(self, step, metrics)
    if step == 1:
      signal.raise_signal(signal.SIGTERM)

  monkeypatch.setattr(loop.Watch, "add", stopping)


class Quick(StandIn, AlphaEcoli):
  """The stand-in, where checkpoints are to hold the model."""

  @property
  def heads(self):
    return HEADS


@pytest.fixture(scope="module", autouse=True)
def quick_model():
  """Has runs and checkpoints take a model that compiles in a second."""
  quick = FunctionalModel.of(lambda key: Quick(Keys(key)))
  with pytest.MonkeyPatch.context() as patch:
    for name in ("of_config", "of_model"):
      patch.setattr(FunctionalModel, name, lambda config, table, heads=HEADS: quick)
    yield


@pytest.fixture(scope="module")
def stopped_then_continued(tmp_path_factory):
  """Arguments and printed tables: fold 0 stopped after a step and continued, then all folds."""
  folder = tmp_path_factory.mktemp("crossvalidation")
  arguments, workdir = cross_validation_arguments(folder), folder / "all"
  with pytest.MonkeyPatch.context() as patch:
    _stop_after_step_1(patch)
    assert crossvalidate.main([*arguments, "--folds=0,2"]) == EXIT_STOPPED
  assert not (workdir / "fold_2").exists() and not (workdir / OUTPUTS[0]).exists()
  assert crossvalidate.main([*arguments, "--folds=0"]) == 0
  with np.load(workdir / "out_of_fold.npz") as file:
    first = dict(file)
  first_json = json.loads((workdir / "crossvalidation.json").read_text())
  before = (workdir / "fold_0" / "run.json").stat().st_mtime_ns
  assert crossvalidate.main(arguments) == 0
  assert (workdir / "fold_0" / "run.json").stat().st_mtime_ns == before
  return arguments, workdir, first, first_json


def test_a_stopped_fold_continues_and_folds_left_out_are_missing(stopped_then_continued):
  _, workdir, first, first_json = stopped_then_continued
  assert _starts(workdir / "fold_0") == [(0, EXIT_STOPPED, 1), (1, 0, 2)]
  assert first_json["folds"] == [0] and first_json["missing"] == [1, 2]
  auroc = first_json["metrics"]["operon_membership/auroc"]["model"]
  assert auroc["n_folds"] == 1 and auroc["std"] is None and auroc["mean"] == auroc["folds"]["0"]
  assert sorted(set(first["fold"])) == [-1, 0] and (first["fold"] == 0).sum() == LENGTH_BP / 3
  np.testing.assert_array_equal(np.isnan(first["operon_membership"]), first["fold"] == -1)


def test_all_folds_are_put_together(stopped_then_continued):
  _, workdir, first, _ = stopped_then_continued
  assert all((workdir / name).exists() for name in OUTPUTS)
  assert len(list((workdir / "tracks").iterdir())) == 3
  found = json.loads((workdir / "crossvalidation.json").read_text())
  assert found["folds"] == [0, 1, 2] and not found["missing"]
  for member in found["members"]:
    assert (workdir / member["checkpoint"] / "params").is_dir()
  each = [json.loads((workdir / f"fold_{k}/evaluation_test.json").read_text()) for k in range(3)]
  assert [e["fold"] for e in each] == [0, 1, 2]
  name = "gene_density/mse"
  values = [e["metrics"][name]["model"] for e in each]
  model = found["metrics"][name]["model"]
  assert list(model["folds"].values()) == values
  assert model["mean"] == pytest.approx(np.mean(values))
  assert model["std"] == pytest.approx(np.std(values, ddof=1))
  (row,) = (
    row
    for row in _rows(workdir / "crossvalidation.tsv")
    if row["metric"] == name and row["source"] == "model"
  )
  assert float(row["fold_2"]) == pytest.approx(values[2], rel=1e-5)

  with np.load(workdir / "out_of_fold.npz") as file:
    arrays = dict(file)
  edges = [10_000, 20_000]  # block i is the test split of fold i - 1
  parts = np.split(np.roll(arrays["fold"], -FIRST_BP), edges)
  assert [set(part) for part in parts] == [{2}, {0}, {1}]
  assert arrays["gene_expression"].shape == (LENGTH_BP, 1)
  assert np.isfinite(arrays["gene_expression"]).all()
  assert ((arrays["operon_membership"] > 0) & (arrays["operon_membership"] < 1)).all()
  known = first["fold"] == 0
  np.testing.assert_array_equal(
    arrays["operon_membership"][known], first["operon_membership"][known]
  )


def test_the_ensemble_predicts_out_of_fold_what_was_gathered(stopped_then_continued):
  _, workdir, _, _ = stopped_then_continued
  named = json.loads((workdir / "ensemble.json").read_text())["members"]
  assert named == [f"fold_{k}/checkpoints/2" for k in range(3)]
  store = open_store(next((workdir / "tracks").iterdir()))
  one = jax.local_devices()[0]
  options = {"device": one, "batch_windows": 4}
  found = load_predictor(workdir, out_of_fold=True, **options).predict(
    store.sequence, circular=True
  )
  with np.load(workdir / "out_of_fold.npz") as file:
    arrays = dict(file)
  # The stand-in sees a base alone, so it does not matter how windows lie.
  np.testing.assert_allclose(found.gene_expression, arrays["gene_expression"], atol=1e-5)
  np.testing.assert_allclose(found.operon_membership[:, 0], arrays["operon_membership"], atol=1e-6)
  mean = load_predictor(workdir, out_of_fold=False, **options).predict(
    store.sequence, circular=True
  )
  assert len(mean.members) == 3 and (mean.spread["operon_membership"] > 0).all()
  with pytest.raises(DataError, match=r"is an ensemble, and one checkpoint is needed here"):
    evaluation_run.evaluate_run(workdir, "test")


def test_tables_of_genes_and_pairs_say_what_was_observed_and_by_which_fold(stopped_then_continued):
  _, workdir, _, _ = stopped_then_continued
  genes = open_store(next((workdir / "tracks").iterdir())).genes
  ends = np.stack([genes.start, genes.end - 1], axis=1)
  block = ((ends - FIRST_BP) % LENGTH_BP * 3 // LENGTH_BP).tolist()
  inside = [i for i, (first, last) in enumerate(block) if first == last]
  assert 0 < len(inside) < len(block)
  rows = _rows(workdir / "out_of_fold_genes.tsv")
  assert [row["gene_id"] for row in rows] == [genes.gene_id[i] for i in inside]
  with np.load(workdir / "out_of_fold.npz") as file:
    arrays = dict(file)
  for i, row in zip(inside, rows, strict=True):
    assert int(row["fold"]) == (block[i][0] - 1) % 3
    bases = np.arange(int(row["start"]), int(row["end"])) % LENGTH_BP
    predicted = arrays["gene_expression"][bases].mean()
    assert float(row["predicted_log_tpm:mean"]) == pytest.approx(predicted, rel=1e-4)
    observed = genes.log_tpm[i, 0]
    assert (row["observed_log_tpm:mean"] == "") == bool(np.isnan(observed))
    assert np.isnan(observed) or float(row["observed_log_tpm:mean"]) == pytest.approx(
      observed, rel=1e-4
    )
  fold_of, operon_of = ({row["gene_id"]: row[k] for row in rows} for k in ("fold", "operon_id"))
  pairs = _rows(workdir / "out_of_fold_pairs.tsv")
  assert len(pairs) > 5
  for pair in pairs:
    left, right = pair["left_id"], pair["right_id"]
    assert fold_of[left] == fold_of[right] == pair["fold"]
    assert pair["observed_same_operon"] == str(int(operon_of[left] == operon_of[right] != ""))
    assert 0 < float(pair["probability"]) < 1


def test_a_call_with_nothing_left_only_gathers(stopped_then_continued, capsys, monkeypatch):
  arguments, workdir, _, _ = stopped_then_continued
  monkeypatch.setattr("alphaecoli.training.run.train", None)
  monkeypatch.setattr(folds, "evaluate_run", None)
  written = {name: (workdir / name).read_bytes() for name in OUTPUTS if "npz" not in name}
  assert crossvalidate.main(arguments) == 0
  assert {name: (workdir / name).read_bytes() for name in written} == written
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == "test split, 3 of 3 folds, mean ± standard deviation"
  assert not any("missing" in line for line in lines)


def test_rivals_and_the_validation_split_are_measured_later_where_the_folder_now_lies(
  stopped_then_continued, tmp_path, monkeypatch
):
  arguments, workdir, *_ = stopped_then_continued
  shutil.copytree(workdir, tmp_path / "moved")
  arguments = [arguments[0], f"--workdir={tmp_path / 'moved'}"]
  monkeypatch.setattr("alphaecoli.training.run.train", None)
  monkeypatch.setattr("alphaecoli.evaluation.rivals.require", lambda: None)
  gap = {"pair_gap": {"operon_membership/pairs_auroc": Value(0.75, 8, "pairs")}}
  skipped = dict.fromkeys(DESCRIPTIONS.keys() - gap, "not here")
  monkeypatch.setattr(evaluation_run, "measure", lambda *_: Rivals(gap, skipped, {}))
  assert crossvalidate.main([*arguments, "--folds=1", "--rivals"]) == 0
  found = json.loads((tmp_path / "moved" / "crossvalidation.json").read_text())
  pairs = found["metrics"]["operon_membership/pairs_auroc"]
  assert pairs["pair_gap"]["folds"] == {"1": 0.75} and pairs["model"]["n_folds"] > 1
  with monkeypatch.context() as patch:
    patch.setattr(folds, "evaluate_run", None)
    assert crossvalidate.main([*arguments, "--folds=1", "--rivals"]) == 0
  assert crossvalidate.main([*arguments, "--folds=2", "--split=validation"]) == 0
  found = json.loads((tmp_path / "moved" / "crossvalidation_validation.json").read_text())
  assert found["split"] == "validation" and found["missing"] == [0, 1]
  with np.load(tmp_path / "moved" / "out_of_fold_validation.npz") as file:
    found = np.roll(file["fold"], -FIRST_BP)
  assert set(found[20_000:]) == {2} and set(found[:20_000]) == {-1}


def test_the_store_of_a_fold_is_found_where_all_folds_have_theirs(stopped_then_continued, tmp_path):
  workdir = stopped_then_continued[1]
  store = _open_store(workdir / "fold_1", None)
  assert store.path.parent == workdir / "tracks" and store.manifest["config"]["fold"] == 1
  shutil.copytree(workdir / "tracks", tmp_path / "tracks")
  meta = read_meta(find_checkpoint(workdir / "fold_1"))
  meta["config"]["data"]["store_dir"] = str(tmp_path / "gone")  # the whole folder was moved
  assert find_store(meta, tmp_path / "fold_1").path.parent == tmp_path / "tracks"
  with pytest.raises(
    DataError, match=r"expected one track store, .*; name that of a fold, such as"
  ):
    _open_store(workdir, None)


def test_folds_are_cut_of_a_prepared_store(tmp_path):
  store = random_store(tmp_path, n_blocks=9, n_folds=3, fold=2)
  base = config_of(stores=(str(store.path),))
  config = divided_as_prepared(base)
  assert (config.data.n_blocks, config.data.n_folds) == (9, 3)
  assert fold_config(config, tmp_path, 2).data.stores == (str(store.path),)
  of_fold = fold_config(config, tmp_path, 0)
  write_fold(config, tmp_path, 0)
  (path,) = of_fold.data.stores
  (found,) = open_organisms(of_fold, tmp_path).stores
  assert str(found.path) == path and found.path.parent == tmp_path / "tracks"
  assert found.manifest["config"] == {**store.manifest["config"], "fold": 0}
  assert found.regions("validation") == divided(store, 0).regions("validation")
  assert found.organism == store.organism and found.fingerprint != store.fingerprint


def test_other_values_are_refused_as_in_training(stopped_then_continued):
  arguments = stopped_then_continued[0]
  with pytest.raises(ConfigError, match=r"holds another run: model\.channels was 8 and is 16"):
    crossvalidate.main([*arguments, "--config.model.channels=16"])


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("--folds=3", r"--folds=3; expected numbers from 0 to 2"),
    ("--folds=0,one", r"expected numbers"),
    ("--config.data.stores=a,b", r"folds are cut of one"),
  ],
)
def test_bad_command_lines_are_one_line_errors(tmp_path, argument, message):
  with pytest.raises(ConfigError, match=message):
    crossvalidate.main([*cross_validation_arguments(tmp_path), argument])
