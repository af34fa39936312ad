import copy
import dataclasses
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from alphaecoli import plot, predict
from alphaecoli.errors import ConfigError, DataError, UserError
from alphaecoli.inference.output import read_prediction
from alphaecoli.inference.prediction import Prediction
from alphaecoli.inference.predictor import Predictor
from alphaecoli.plotting import observed
from alphaecoli.plotting import region as drawing
from alphaecoli.tracks.gene_table import GeneTable
from tests.inference.standin import WINDOW_BP, StandIn
from tests.stores import random_store

LENGTH_BP = 120_000


@pytest.fixture(scope="module")
def predictor(toy_store) -> Predictor:
  class OneTrack(StandIn):
    def __call__(self, windows, both):
      outputs = super().__call__(windows, both)
      return outputs | {"gene_expression": outputs["gene_expression"][..., :1]}

  return Predictor(
    OneTrack(4),
    toy_store.table,
    window_bp=WINDOW_BP,
    margin_bp=512,
    batch_windows=4,
    about={"checkpoint": "C"},
  )


@pytest.fixture(scope="module")
def region(toy_store):
  return observed.choose_region(toy_store, "test")


@pytest.fixture(scope="module")
def prediction(predictor, toy_store, region) -> Prediction:
  return predictor.predict(toy_store.sequence, circular=True, interval=region)


@pytest.fixture(scope="module")
def folder(predictor, toy_store, tmp_path_factory):
  """What the predict command writes for the toy chromosome."""
  from alphaecoli.genomics.sequence import decode

  path = tmp_path_factory.mktemp("predictions")
  fasta = path / "toy.fna"
  fasta.write_text(f">{toy_store.contig}\n{decode(toy_store.sequence)}\n")
  patch = pytest.MonkeyPatch()
  patch.setattr("alphaecoli.api.load_predictor", lambda *a, **k: predictor)
  flags = ["--checkpoint", "C", "--fasta", str(fasta), "--out", str(path), "--circular", "all"]
  predict.main(flags)
  patch.undo()
  return path


@pytest.mark.parametrize("split", ["test", "validation", "train"])
def test_chosen_region_lies_in_the_split_and_holds_an_operon_with_data(toy_store, split):
  start, end = observed.choose_region(toy_store, split, width_bp=5000)
  assert end - start == 5000
  assert any(a <= start and end <= b for a, b in toy_store.regions(split))
  genes, whole = toy_store.genes, []
  for operon in set(genes.operon_id) - {""}:
    rows = np.flatnonzero(genes.operon_id == operon)
    inside = genes.start[rows].min() >= start and genes.end[rows].max() <= end
    if len(rows) > 1 and inside and not np.isnan(genes.log_tpm[rows]).any():
      whole.append(operon)
  assert whole
  assert observed.choose_region(toy_store, split, width_bp=5000) == (start, end)


def test_observed_tracks_are_the_stores(toy_store):
  start, end = 1000, 3000
  found = observed.read_observed(toy_store, start, end)
  assert found.start == 896 and len(found.operon) % 128 == 0
  genes = toy_store.genes
  for position in range(found.start, end, 97):
    over = (genes.start <= position) & (genes.end > position) & ~np.isnan(genes.log_tpm[:, 0])
    value = found.log_tpm[position - found.start, 0]
    if over.any():
      assert value == pytest.approx(genes.log_tpm[over, 0].mean(), rel=1e-4)
    else:
      assert np.isnan(value)


@pytest.mark.parametrize(
  ("names", "label"),
  [
    (["thrL", "thrA", "thrB", "thrC"], "thrLABC"),
    (["rpsP", "rimM", "trmD", "rplS"], "rpsP-rimM-trmD-rplS"),
    (["lacZ", "lacY", "b0001", "insA1"], "lacZY-b0001-insA1"),
  ],
)
def test_operon_names_are_short(names, label):
  assert observed.operon_label(names) == label


def test_picture_shows_both_and_says_that_it_is_held_out(
  toy_store, prediction, region, tmp_path, monkeypatch
):
  kept = []
  monkeypatch.setattr(drawing.plt, "close", kept.append)
  path = tmp_path / "new" / "region.png"
  drawing.plot_region(toy_store, prediction, *region, path, title="Toy")
  assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 20_000
  (figure,) = kept
  genes_axis, expression, density, operon = figure.axes
  title = figure.get_suptitle()
  assert title.startswith("Toy, ") and title.endswith("(held-out test)")
  for axis in (expression, density, operon):
    assert axis.get_ylabel().splitlines()[1] in ("ln(1 + TPM)", "genes / 128 bp", "probability")
  assert operon.get_xlabel().endswith("(kb)")
  assert operon.get_xlim() == (region[0] / 1000, region[1] / 1000)
  kb, drawn = expression.lines[-1].get_data()
  step = max((region[1] - region[0]) // 2000, 1)
  at = int(kb[500] * 1000 - 0.5 * step) - prediction.start
  mean = prediction.gene_expression[at : at + step, 0].mean()
  assert drawn[500] == pytest.approx(mean, rel=1e-4)
  names = {text.get_text() for text in genes_axis.texts}
  inside = (toy_store.genes.start >= region[0]) & (toy_store.genes.end <= region[1])
  assert names & set(toy_store.genes.name[inside])
  assert figure.legends and not any(axis.get_legend() for axis in figure.axes)
  monkeypatch.undo()
  plt.close(figure)


def test_prediction_files_give_back_the_prediction(folder, prediction, region, toy_store):
  read = read_prediction(folder, toy_store.contig, *region)
  assert (read.start, read.end, read.units) == (prediction.start, prediction.end, "log_tpm")
  np.testing.assert_array_equal(read.gene_expression, prediction.gene_expression)
  np.testing.assert_array_equal(read.gene_density, prediction.gene_density)
  np.testing.assert_array_equal(read.operon_membership, prediction.operon_membership)


def test_prediction_files_that_do_not_fit_are_one_line(folder, tmp_path):
  with pytest.raises(DataError, match=r"predictions.json: No such file"):
    read_prediction(tmp_path, "toy", 0, 10)
  with pytest.raises(DataError, match="no contig 'chr'; it has"):
    read_prediction(folder, "chr", 0, 10)
  name = json.loads((folder / "predictions.json").read_text())["contigs"][0]["name"]
  with pytest.raises(DataError, match="not within"):
    read_prediction(folder, name, 0, LENGTH_BP + 1)


@pytest.fixture
def command(toy_store, monkeypatch, predictor):
  meta = {
    "config": {"data": {"store_dir": str(toy_store.path.parent)}},
    "store_fingerprint": toy_store.fingerprint,
  }
  monkeypatch.setattr("alphaecoli.checkpoints.read.find_checkpoint", lambda path: path)
  monkeypatch.setattr("alphaecoli.checkpoints.read.read_meta", lambda path: meta)
  monkeypatch.setattr("alphaecoli.api.load_predictor", lambda path, organism: predictor)
  return meta


def test_command_draws_from_files_and_from_the_checkpoint(command, folder, tmp_path):
  for flags in (["--predictions", str(folder)], ["--region", "6,500-9000"]):
    path = tmp_path / f"{len(flags[0])}.png"
    assert plot.main(["--workdir", str(tmp_path), "--out", str(path), *flags]) == 0
    assert path.exists()


def test_command_says_what_is_wrong_in_one_line(command, tmp_path, monkeypatch, capsys):
  base = ["--workdir", str(tmp_path), "--out", str(tmp_path / "x.png")]
  with pytest.raises(ConfigError, match="past the end"):
    plot.main([*base, "--region", "119000-130000"])
  with pytest.raises(ConfigError, match="track 'heat' is not in the store; it has mean"):
    plot.main([*base, "--track", "heat"])
  with pytest.raises(SystemExit):
    plot.main([*base, "--region", "90-10"])
  assert "expected start-end" in capsys.readouterr().err
  command["store_fingerprint"] = "another"
  with pytest.raises(UserError, match="track store of this run is not there"):
    plot.main(base)


def test_bad_flag_ends_with_status_2():
  with pytest.raises(SystemExit) as caught:
    plot.main(["--out", "x"])
  assert caught.value.code == 2


@pytest.mark.parametrize("circular", [True, False])
def test_an_operon_over_the_origin_is_marked_there_and_not_all_around(toy_store, circular):
  store, genes = copy.copy(toy_store), toy_store.genes
  columns = {f.name: getattr(genes, f.name)[:5] for f in dataclasses.fields(genes)}
  columns["start"] = np.array([10, 300, 420, 900, 960])
  columns["end"] = np.array([90, 400, 500, 950, 1005 if circular else 1000])
  columns["operon_id"] = np.array(["o", "p", "p", "o", "o"])
  store.genes, store.length_bp, store.circular = GeneTable(**columns), 1000, circular
  first, second = observed.marked_operons(store)
  around = (900, 1090, (3, 4, 0)) if circular else (10, 1000, (0, 3, 4))
  assert (first.start, first.end, first.rows) == around
  assert (second.start, second.end, second.rows) == (300, 500, (1, 2))


def test_a_split_that_passes_the_origin_is_named_on_both_sides(tmp_path):
  store = random_store(tmp_path, length_bp=60_000, n_blocks=3, n_folds=3, fold=2)
  assert store.regions("validation") == ((50_000, 70_000),)
  for start, end in ((0, 9_000), (51_000, 60_000)):
    assert observed.split_words(store, start, end) == "held-out validation"
  assert observed.split_words(store, 9_000, 11_000) == "partly training data"
