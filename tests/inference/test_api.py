"""What users pass to a predictor and what they get back."""

import sys
from pathlib import Path

import numpy as np
import pytest

import alphaecoli
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.sequence import Contig, decode
from alphaecoli.inference.arguments import Interval, as_genome
from alphaecoli.inference.prediction import Request
from alphaecoli.inference.tiling import window_start
from tests.inference.standin import WINDOW_BP, predictor, random_codes, whole_contig

CODES = random_codes(9000)
HEADS = ("gene_expression", "gene_density", "operon_membership")


@pytest.fixture
def fasta(tmp_path):
  path = tmp_path / "toy.fasta"
  path.write_text(f">chr.1 toy\n{decode(CODES)}\n>p:2\n{decode(CODES[:700])}\n")
  return path


def same(one, other):
  return all(np.array_equal(getattr(one, head), getattr(other, head)) for head in HEADS)


def test_every_form_of_a_genome_is_the_same_sequence(fasta):
  contigs = alphaecoli.read_genome(fasta)
  span = ("chr.1", 3000, 5000)
  expected = predictor().predict(CODES, (3000, 5000))
  for source in (contigs, list(contigs.values()), fasta, contigs["chr.1"]):
    for interval in (span, Interval(*span), "chr.1:3,001-5,000"):
      result = predictor().predict(source, interval)
      assert same(result, expected)
      assert result.contig == "chr.1" and result.start == 2944


def test_topology_is_the_contigs_own_unless_it_is_given(fasta):
  ring = alphaecoli.read_genome(fasta, circular=["p:2"])
  assert [c.circular for c in ring.values()] == [False, True]
  assert not any(c.circular for c in alphaecoli.read_genome(fasta).values())
  assert all(c.circular for c in alphaecoli.read_genome(fasta, circular=True).values())
  by_contig = predictor().predict(ring, "p:2:1-700")
  assert by_contig.circular
  assert same(by_contig, predictor().predict(CODES[:700], circular=True))
  assert not predictor().predict(ring["p:2"], circular=False).circular


@pytest.mark.parametrize(
  ("interval", "text"),
  [
    ("chr.1:5", "expected contig:start-end"),
    ("chr.1:0-5", "1 <= start <= end"),
    ("chr1:1-5", r"no contig 'chr1' in the genome, which has 2; nearest: chr.1"),
    ((1, 2, 3, 4), r"expected \(start, end\)"),
    ((1, 2.5), r"expected \(start, end\)"),
    ((1, 5), "2 contigs, among them chr.1, p:2"),
    (("chr.1", 5, 9001), "not within the sequence"),
  ],
)
def test_bad_interval_is_one_line(fasta, interval, text):
  with pytest.raises(ConfigError, match=text) as caught:
    predictor().predict(alphaecoli.read_genome(fasta), interval)
  assert "\n" not in str(caught.value)


def test_bad_genome_is_one_line(fasta):
  with pytest.raises(DataError, match="looks like a file"):
    predictor().predict(str(fasta))
  with pytest.raises(DataError, match="genome is a int; expected a file name"):
    as_genome(7)
  with pytest.raises(DataError, match="no such genome file"):
    predictor().predict(Path("absent.fa"))
  with pytest.raises(ConfigError, match="no such contig in the genome"):
    alphaecoli.read_genome(fasta, circular="x")


def test_one_window_is_the_models_output_anywhere_on_a_ring():
  start = -700
  result = predictor().predict(
    CODES, (start, start + WINDOW_BP), circular=True, one_window=True, units="z"
  )
  alone = predictor().predict(np.roll(CODES, 700)[:WINDOW_BP], units="z")
  assert same(result, alone) and result.start == start
  with pytest.raises(ConfigError, match="has 100 bp; as one window it must have the model's 2048"):
    predictor().predict(CODES, (0, 100), one_window=True)


@pytest.mark.parametrize("circular", [False, True], ids=["linear", "circular"])
@pytest.mark.parametrize("length", [100, 2000, 2049, 9001])
def test_windows_hold_their_region_and_stay_on_a_linear_contig(length, circular):
  for start in range(0, length, 97):
    for end in (start + 1, min(start + 300, length)):
      first = window_start(length, start, end, WINDOW_BP, circular)
      assert first % 128 == 0 and first <= start and end <= first + WINDOW_BP
      if not circular and length > WINDOW_BP:
        assert first >= 0 and first + WINDOW_BP <= -(-length // 128) * 128
      elif circular:
        assert abs((start + end) / 2 - first - WINDOW_BP / 2) <= 64


def test_embeddings_are_those_of_a_window_around_the_region():
  found = predictor().embed(CODES, (4000, 4500), circular=True)
  assert (found.start, found.end) == (3968, 4608)
  first = found.window[0]
  assert found.window == (first, first + WINDOW_BP) and first <= 3968
  np.testing.assert_array_equal(found.one_bp[:, 0], CODES[3968:4608])
  np.testing.assert_array_equal(found.one_bp[:, 1], np.arange(3968, 4608) - first)
  np.testing.assert_array_equal(found.bins, found.one_bp.reshape(5, 128, 2).sum(axis=1))
  assert found.pair.shape == (1, 1, 2) and found.pair_start == first


def test_embeddings_of_a_short_sequence_and_of_many():
  whole = predictor().embed("ACGT" * 50)
  assert whole.one_bp.shape == (200, 2) and whole.bins.shape == (2, 2) and whole.start == 0
  np.testing.assert_array_equal(whole.one_bp[:, 0], np.arange(200) % 4)
  spans = [(0, 128), (4000, 4100), (8900, 9000)]
  model = predictor(batch_windows=2)
  for span, many in zip(
    spans, model.embed_many(Request(CODES, True, span, "c") for span in spans), strict=True
  ):
    one = predictor().embed({"c": Contig("c", CODES, circular=True)}, span)
    assert all(
      np.array_equal(a, b)
      for a, b in zip(many.to_numpy().values(), one.to_numpy().values(), strict=True)
    )
    assert (many.start, many.pair_start, many.window) == (one.start, one.pair_start, one.window)
  with pytest.raises(ConfigError, match="more than the model's window of 2048"):
    predictor().embed(CODES)


def test_prediction_as_numpy_pandas_and_xarray():
  result = predictor().predict(CODES, (300, 600))
  assert {k: v.shape for k, v in result.to_numpy().items()} == {
    "gene_expression": (384, 2),
    "gene_density": (3, 1),
    "operon_membership": (384, 1),
  }
  frame = result.to_pandas()
  assert frame.index[0] == 256 and frame.index[-1] == 639
  expected = whole_contig(CODES, False)
  assert frame.loc[300, "operon_membership"] == pytest.approx(
    expected["operon_membership"][300, 0], abs=1e-5
  )
  assert frame.loc[400, "gene_density"] == pytest.approx(expected["gene_density"][3, 0], abs=1e-4)
  assert list(frame.columns[:2]) == ["gene_expression:heat/+", "gene_expression:heat/-"]
  data = result.to_xarray()
  assert float(data.gene_density.sel(bin=384)) == pytest.approx(frame.loc[400, "gene_density"])
  column = data.gene_expression.sel(track="heat/-", position=599)
  assert float(column) == pytest.approx(frame.loc[599, "gene_expression:heat/-"])
  assert data.strand.sel(track="heat/-") == "-"
  assert data.gene_expression.attrs["units"] == "ln(1 + TPM)"
  assert data.gene_density.attrs["units"] == "genes per 128 bp"


def test_embeddings_as_pandas_and_xarray():
  found = predictor().embed(CODES, (4000, 4500))
  assert found.to_pandas().loc[4000, 0] == CODES[4000]
  assert found.to_pandas(128).index.tolist() == [3968, 4096, 4224, 4352, 4480]
  data = found.to_xarray()
  assert float(data.one_bp.sel(position=4001, feature=0)) == CODES[4001]
  assert data.pair.shape == (1, 1, 2) and int(data.pair_column[0]) == found.pair_start
  with pytest.raises(ValueError, match="resolution=2048"):
    found.to_pandas(2048)


@pytest.mark.parametrize(("package", "call"), [("pandas", "to_pandas"), ("xarray", "to_xarray")])
def test_missing_package_names_the_extra(monkeypatch, package, call):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(ConfigError, match=rf"{package} is not installed.*alphaecoli\[analysis\]"):
    getattr(predictor().predict("ACGT"), call)()


def test_public_names_are_all_there():
  for name in alphaecoli.__all__:
    assert getattr(alphaecoli, name) is not None
  with pytest.raises(AttributeError, match="no attribute 'nothing'"):
    alphaecoli.nothing
