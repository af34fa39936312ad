"""The chromosome in the page is that of the store and of the prediction."""

import base64
import json

import numpy as np
import pytest

from alphaecoli.errors import ConfigError
from alphaecoli.genomics.intervals import merge
from alphaecoli.inference.prediction import Prediction
from alphaecoli.reporting import chromosome as tracks
from alphaecoli.reporting.chromosome import Locus, choose_loci
from tests import stores, toy


def prediction_of(store, seed=0) -> Prediction:
  rng = np.random.default_rng(seed)
  length, bins = store.length_bp, -(-store.length_bp // 128)
  return Prediction(
    gene_expression=rng.normal(3, 2, (length, len(store.table.names))).astype(np.float32),
    gene_density=rng.random((bins, 1)).astype(np.float32),
    operon_membership=rng.random((length, 1)).astype(np.float32),
    table=store.table,
  )


def values_of(layer, segment):
  codes = np.frombuffer(base64.b64decode(segment["codes"]), np.uint8)
  values = layer["low"] + (layer["high"] - layer["low"]) * codes / 254.0
  return np.where(codes == 255, np.nan, values)


@pytest.fixture(scope="module")
def view(toy_store):
  locus = Locus("here", 50_000, 50_500)
  return tracks.genome_view(toy_store, prediction_of(toy_store), 0, "test", [locus])


def test_predictions_are_whole_at_32_bp_and_base_by_base_in_the_detail(toy_store, view):
  prediction = prediction_of(toy_store)
  raw = {"expression": prediction.gene_expression[:, 0], "operon": prediction.operon_membership}
  regions = [tuple(map(int, region)) for region in toy_store.regions("test")]
  assert view["detail"] == merge([*regions, (50_000, 50_500)])
  for name, column in raw.items():
    layer, values = view["predicted"][name], np.ravel(column)
    half = (layer["high"] - layer["low"]) / 254 / 2 * 1.001
    whole, *detail = layer["segments"]
    assert (whole["start"], whole["step"]) == (0, 32)
    means = values.reshape(-1, 32).mean(axis=1)  # 120,000 is a multiple of 32
    np.testing.assert_allclose(values_of(layer, whole), means, atol=half)
    assert [(s["start"], s["step"]) for s in detail] == [(a, 1) for a, _ in view["detail"]]
    for segment, (start, end) in zip(detail, view["detail"], strict=True):
      np.testing.assert_allclose(values_of(layer, segment), values[start:end], atol=half)
  layer = view["predicted"]["density"]
  (whole,) = layer["segments"]
  assert whole["step"] == 128
  np.testing.assert_allclose(
    values_of(layer, whole),
    prediction.gene_density[:, 0],
    atol=(layer["high"] - layer["low"]) / 500,
  )


def test_observed_tracks_are_the_stores(toy_store, view):
  observed = view["observed"]
  expression = np.full(toy_store.length_bp, np.nan)
  for start, end, value in zip(*observed["expression"].values(), strict=True):
    assert np.isnan(expression[start:end]).all()
    expression[start:end] = value
  stored = toy_store.table.to_log_tpm(toy_store.gene_expression)[:, 0]
  np.testing.assert_allclose(expression, stored, atol=1e-3)
  operon = np.zeros(toy_store.length_bp, np.uint8)
  for start, end in observed["operon"]:
    operon[start:end] = 1
  np.testing.assert_array_equal(operon, toy_store.operon_membership)
  layer = observed["density"]
  found = values_of(layer, layer["segments"][0])
  window = toy_store.window(0, len(found) // 128 * 128 * 128)["gene_density"][:, 0]
  np.testing.assert_allclose(found[: len(window)], window, atol=1e-2)


def test_genes_have_the_means_of_their_bases(toy_store, view):
  prediction, genes = prediction_of(toy_store), toy_store.genes
  columns = view["genes"]
  assert columns["name"] == list(genes.name) and columns["tag"] == list(genes.locus_tag)
  for row in range(0, len(genes), 7):
    bases = np.concatenate([np.arange(a, b) % toy_store.length_bp for a, b in genes.fragments[row]])
    mean = prediction.gene_expression[bases, 0].mean(dtype=np.float64)
    assert columns["predicted"][row] == pytest.approx(mean, abs=6e-4)
    measured = genes.log_tpm[row, 0]
    if np.isnan(measured):
      assert columns["observed"][row] is None
    else:
      assert columns["observed"][row] == pytest.approx(measured, abs=6e-4)


def test_a_store_without_expression_or_operons_has_a_view(tmp_path):
  dump = toy.write_random(tmp_path / "dump", 60_000, 0)
  for name in ("geneExpression", "operonDatamart"):
    dump.files[name].unlink()
  store = stores.process_data(stores.toy_config(dump), tmp_path)
  view = tracks.genome_view(store, None, 0, "test", choose_loci(store, None, "test"))
  json.dumps(view, allow_nan=False)
  assert not view["has_expression"] and not view["has_operons"]
  assert view["observed"]["expression"]["start"] == [] and view["observed"]["operon"] == []
  assert view["loci"] == [] and view["operons"] == [] and view["predicted"] == {}


def test_the_end_of_a_linear_contig_is_unknown_density_and_nothing_else(tmp_path):
  store = stores.random_store(tmp_path, length_bp=60_010, circular=False)
  view = tracks.genome_view(store, prediction_of(store), 0, "test", [])
  layer = view["observed"]["density"]
  values = values_of(layer, layer["segments"][0])
  assert len(values) == 469 and np.isnan(values[-1]) and not np.isnan(values[:-1]).any()


def test_detail_is_thinned_before_the_page_grows_large():
  assert tracks.detail_step([(0, 3_000_000)]) == 1
  assert tracks.detail_step([(0, 2_000_000), (3_000_000, 5_000_000)]) == 2
  assert tracks.detail_step([(0, 100_000_000)]) == 64
  values = np.arange(10, dtype=np.float32)
  np.testing.assert_allclose(tracks.binned(values, 4), [1.5, 5.5, 8.5])


def test_codes_of_constants_and_of_nothing():
  values = np.array([2.0, np.nan, 2.0], np.float32)
  np.testing.assert_array_equal(tracks.quantise(values, 2.0, 2.0), [0, 255, 0])
  codes = tracks.quantise(np.array([0, 0.5, 1], np.float32), 0.0, 1.0)
  np.testing.assert_array_equal(codes, [0, 127, 254])


def test_loci_by_name_by_locus_tag_and_by_place(toy_store):
  genes = toy_store.genes
  row = int(np.flatnonzero((genes.start > 30_000) & (genes.locus_tag != ""))[0])
  tag = str(genes.locus_tag[row])
  text = f"{tag.upper()}, {genes.name[row]},{toy_store.contig}:101-2,100"
  first, second, third = choose_loci(toy_store, text.replace("2,100", "2100"), "test")
  assert (first.start, first.end) == (second.start, second.end)
  assert first.label == genes.name[row]
  assert first.start <= genes.start[row] and genes.end[row] <= first.end
  assert first.end - first.start >= 20_000
  assert (third.start, third.end) == (100, 2100)  # 1-based and inclusive in text


def test_loci_by_default_are_the_region_that_plot_draws(toy_store):
  from alphaecoli.plotting.observed import choose_region

  (locus,) = choose_loci(toy_store, None, "validation")
  assert (locus.start, locus.end) == choose_region(toy_store, "validation")


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("other:1-10", "expected a region of toy:1-120000"),
    ("toy:1-120001", "expected a region of toy:1-120000"),
    ("toy:20-10", "expected 1 <= start <= end"),
    ("nosuch", "no gene of that name, locus tag or id"),
  ],
)
def test_loci_that_are_nowhere(toy_store, text, message):
  assert toy_store.contig == "toy"
  with pytest.raises(ConfigError, match=message):
    choose_loci(toy_store, text, "test")


def test_intervals_that_touch_become_one():
  assert merge([(5, 9), (0, 3), (3, 4), (6, 7)]) == [(0, 4), (5, 9)]
