"""Folds put together: metrics by hand-worked numbers, predictions each base once."""

import csv
import math

import numpy as np
import pytest

from alphaecoli.errors import DataError
from alphaecoli.evaluation.fold_metrics import FoldResult, aggregate
from alphaecoli.evaluation.folds import assemble, check_alike, join_tables
from alphaecoli.evaluation.split_arrays import Layout
from alphaecoli.tracks.splits import TEST, configured_regions
from tests import stores

R2, AUROC, CALLS = "gene_expression/genes_r2", "operon_membership/auroc", "gene_calls/precision"


def _report(r2, auroc, baseline=0.0, ridge=None, calls=None):
  """What `Report.to_json` gives, of two metrics and maybe two rivals."""

  def metric(model, baseline, n, over):
    return {"model": model, "baseline": baseline, "n": n, "over": over}

  report = {
    "metrics": {R2: metric(r2, baseline, 40, "genes"), AUROC: metric(auroc, 0.5, 9, "bases")}
  }
  if ridge is not None:
    report["rivals"] = {
      "codon_ridge": {
        "column": "fitted",
        "metrics": {R2: {"value": ridge, "n": 40, "over": "genes"}},
      },
      "pair_model": {"column": "fitted", "skipped": "no operons"},
      "prodigal_genes": {
        "column": "rule",
        "metrics": {CALLS: {"value": calls, "n": 30, "over": "genes"}},
      },
    }
  return report


def _of(found, name, source):
  (metric,) = (m for m in found.metrics if (m.name, m.source) == (name, source))
  return metric


def test_mean_and_standard_deviation_by_hand():
  found = aggregate({0: _report(0.2, 0.7), 1: _report(0.4, 0.9), 3: _report(0.6, 0.8)}, TEST, 4)
  r2 = _of(found, R2, "model")
  assert r2.mean == pytest.approx(0.4) and r2.std == pytest.approx(0.2)  # of 0.08 / 2
  assert _of(found, AUROC, "baseline").std == 0
  assert found.folds == (0, 1, 3) and found.missing == (2,)
  assert found.to_json()["metrics"][R2]["model"] == {
    "mean": pytest.approx(0.4),
    "std": pytest.approx(0.2),
    "n_folds": 3,
    "folds": {"0": 0.2, "1": 0.4, "3": 0.6},
    "n": {"0": 40, "1": 40, "3": 40},
  }


def test_undefined_values_are_left_out_and_never_counted_as_0():
  found = aggregate({0: _report(None, None), 1: _report(0.4, None), 2: _report(0.5, None)}, TEST, 3)
  r2, auroc = _of(found, R2, "model"), _of(found, AUROC, "model")
  assert r2.mean == pytest.approx(0.45) and r2.std == pytest.approx(0.1 / math.sqrt(2))
  assert math.isnan(auroc.mean) and math.isnan(auroc.std)
  values = found.to_json()["metrics"]
  assert values[R2]["model"]["n_folds"] == 2 and values[R2]["model"]["folds"]["0"] is None
  assert values[AUROC]["model"]["mean"] is None and values[AUROC]["model"]["n_folds"] == 0
  line = next(line for line in found.table().splitlines() if line.startswith(AUROC))
  assert line.split() == [AUROC, "-", "0.5000", "±", "0.0000", "3", "bases"]


def test_one_fold_has_no_standard_deviation():
  found = aggregate({1: _report(0.4, 0.9)}, TEST, 3)
  assert math.isnan(_of(found, R2, "model").std)
  lines = found.table().splitlines()
  assert lines[0] == "test split, 1 of 3 folds, mean ± standard deviation"
  assert lines[2].split() == [R2, "0.4000", "0.0000", "1", "genes"]
  assert lines[-1] == "folds that are missing: 0, 2"


def test_rivals_stand_in_their_columns_and_in_rows_of_their_own(tmp_path):
  reports = {0: _report(0.2, 0.7, ridge=0.3, calls=0.9), 1: _report(0.4, 0.9, ridge=0.5, calls=0.7)}
  found = aggregate(reports, TEST, 2)
  lines = found.table().splitlines()
  assert lines[1].split() == ["metric", "model", "baseline", "rule", "fitted", "folds"]
  by_name = {line.split()[0]: line.split()[1:] for line in lines[2:]}
  assert by_name[R2][:7] == ["0.3000", "±", "0.1414", "0.0000", "±", "0.0000", "-"]
  assert by_name[R2][7:] == ["0.4000", "±", "0.1414", "2", "genes"]
  assert by_name[CALLS] == ["-", "-", "0.8000", "±", "0.1414", "-", "2", "genes"]
  found.write_tsv(tmp_path / "all.tsv")
  with open(tmp_path / "all.tsv", newline="") as file:
    rows = {(r["metric"], r["source"]): r for r in csv.DictReader(file, delimiter="\t")}
  assert set(rows) == {
    *((name, source) for name in (R2, AUROC) for source in ("model", "baseline")),
    (R2, "codon_ridge"),
    (CALLS, "prodigal_genes"),
  }
  assert rows[R2, "codon_ridge"] == {
    "metric": R2,
    "source": "codon_ridge",
    "over": "genes",
    "mean": "0.4",
    "std": "0.141421",
    "n_folds": "2",
    "fold_0": "0.3",
    "fold_1": "0.5",
  }


def _result(fold, length_bp=1000, n_blocks=7, n_folds=3, tracks=("a", "b"), **changed):
  """A result whose predictions tell the position that they are of."""
  config = stores.config_of(n_blocks=n_blocks, n_folds=n_folds, fold=fold, **changed)
  regions = configured_regions(config.to_dict()["data"], length_bp, True)[TEST]
  layout = Layout(tuple((r.start, r.end) for r in regions), length_bp)
  at = layout.positions().astype(np.float32)
  metadata = {
    "fold": fold,
    "contig": "made up",
    "tracks": list(tracks),
    "config": config.to_dict(),
    "report": _report(0.1 * fold, None),
  }
  bases = {
    "gene_expression": np.stack([at, -at], axis=1)[:, : len(tracks)],
    "gene_density": np.where(at % 128 == 0, at, np.nan),
    "operon_membership": at / length_bp,
  }
  starts = np.array([r.start % length_bp for r in regions])
  genes = {"gene_id": np.array([f"G{s}" for s in starts]), "start": starts, "value": starts / 2}
  return FoldResult(metadata, layout, bases, genes, {"left_id": genes["gene_id"], "start": starts})


@pytest.mark.parametrize("n_blocks", [3, 7, 9], ids=lambda n: f"{n} blocks")
def test_test_splits_of_all_folds_cover_each_base_once(n_blocks):
  results = {fold: _result(fold, n_blocks=n_blocks) for fold in range(3)}
  assert sum(r.layout.n_bases for r in results.values()) == 1000
  found = assemble(results)
  every = np.arange(1000, dtype=np.float32)
  np.testing.assert_array_equal(found["gene_expression"], np.stack([every, -every], axis=1))
  np.testing.assert_array_equal(found["operon_membership"], every / np.float32(1000))
  np.testing.assert_array_equal(np.flatnonzero(~np.isnan(found["gene_density"])), every[::128])
  edges = [round(i * 1000 / n_blocks) for i in range(1, n_blocks)]
  first = round(0.5 * 1000 / n_blocks)  # half a block: the last one passes the origin
  for i, block in enumerate(np.split(np.roll(found["fold"], -first), edges)):
    assert set(block) == {(i - 1) % 3}
  assert list(found["tracks"]) == ["a", "b"]


def test_bases_of_folds_that_are_not_done_are_nan():
  found = assemble({1: _result(1)})
  missing = found["fold"] == -1
  assert 0 < missing.sum() < 1000
  assert np.isnan(found["gene_expression"][missing]).all()
  assert not np.isnan(found["gene_expression"][~missing]).any()


def test_folds_that_overlap_or_differ_are_refused():
  with pytest.raises(DataError, match="folds 0 and 1 have predicted the same bases"):
    assemble({0: _result(0), 1: _result(0)})
  with pytest.raises(DataError, match="fold 1 is of another chromosome"):
    assemble({0: _result(0), 1: _result(1, length_bp=999)})
  with pytest.raises(DataError, match="other expression tracks"):
    assemble({0: _result(0), 1: _result(1, tracks=("a",))})


def test_folds_of_another_division_are_refused_and_other_settings_are_said(caplog):
  data = stores.config_of(n_blocks=7, n_folds=3).data
  check_alike({0: _result(0), 1: _result(1, store_dir="elsewhere")}, data)
  assert not caplog.messages
  check_alike({0: _result(0), 1: _result(1, window_bp=4096)}, data)
  assert caplog.messages == ["the folds were trained with different data.window_bp"]
  with pytest.raises(DataError, match=r"fold_1 holds a run with .*'n_blocks': 9"):
    check_alike({0: _result(0), 1: _result(1, n_blocks=9)}, data)
  with pytest.raises(DataError, match=r"fold_2 holds a run with .*'fold': 1"):
    check_alike({2: _result(1)}, data)


def test_tables_are_joined_in_the_order_of_the_chromosome():
  joined = join_tables({fold: _result(fold).genes for fold in range(3)})
  assert list(joined) == ["fold", "gene_id", "start", "value"]
  assert (np.diff(joined["start"]) > 0).all()
  assert [f"G{start}" for start in joined["start"]] == list(joined["gene_id"])
  assert set(joined["fold"]) == {0, 1, 2}


def test_a_result_is_read_as_it_was_written_and_a_broken_file_is_said(tmp_path):
  path, result = tmp_path / "fold.npz", _result(2)
  result.write(path)
  found = FoldResult.read(path)
  assert found.layout == result.layout
  assert found.metadata["report"] == result.metadata["report"]
  for part in ("bases", "genes", "pairs"):
    ours, theirs = getattr(result, part), getattr(found, part)
    assert list(theirs) == list(ours)
    for name, values in ours.items():
      np.testing.assert_array_equal(theirs[name], values)
  path.write_bytes(path.read_bytes()[:500])
  with pytest.raises(DataError, match=r"can not be read .* delete it and run again"):
    FoldResult.read(path)


def test_a_column_that_one_fold_lacks_is_left_out():
  tables = {0: {"start": np.array([5]), "more": np.array([1])}, 1: {"start": np.array([2])}}
  joined = join_tables(tables)
  assert {name: values.tolist() for name, values in joined.items()} == {
    "fold": [1, 0],
    "start": [2, 5],
  }
