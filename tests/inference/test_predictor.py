import numpy as np
import pytest

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.sequence import decode, encode
from alphaecoli.inference.compiled import MOST_WAITING
from alphaecoli.inference.prediction import Request
from alphaecoli.inference.predictor import Predictor
from alphaecoli.inference.tiling import plan_tiles, tile_codes
from tests.inference.standin import (
  TABLE,
  StandIn,
  predictor,
  random_codes,
  raw_tracks,
  whole_contig,
)

HEADS = ("gene_expression", "gene_density", "operon_membership")
LENGTHS = [1, 100, 128, 2048, 2049, 5000, 10_240, 12_345]


@pytest.mark.parametrize("circular", [False, True], ids=["linear", "circular"])
@pytest.mark.parametrize("length", LENGTHS)
def test_tiled_prediction_equals_the_whole_contig_at_once(length, circular):
  codes = random_codes(length)
  result = predictor().predict(codes, circular=circular, units="z")
  expected = whole_contig(codes, circular)
  for head in HEADS:
    values = getattr(result, head)
    assert values.dtype == np.float32 and values.shape == expected[head].shape
    np.testing.assert_allclose(values, expected[head], atol=2e-5, err_msg=head)


def test_stand_in_notices_a_margin_that_is_too_small():
  codes = random_codes(10_240)
  result = predictor(margin_bp=128).predict(codes, circular=True, units="z")
  assert not np.allclose(result.gene_expression, whole_contig(codes, True)["gene_expression"])


def test_ring_has_no_origin():
  codes = random_codes(128 * 50)
  straight = predictor().predict(codes, circular=True)
  turned = predictor().predict(np.roll(codes, -128 * 17), circular=True)
  for head, bins in (("gene_expression", 128), ("gene_density", 1), ("operon_membership", 128)):
    expected = np.roll(getattr(straight, head), -17 * bins, axis=0)
    np.testing.assert_allclose(getattr(turned, head), expected, atol=2e-5, err_msg=head)


def test_window_long_sequence_is_the_models_own_output():
  codes = random_codes(2048)
  result = predictor().predict(codes, units="z")
  for head, values in raw_tracks(codes).items():
    assert np.array_equal(getattr(result, head), values.astype(np.float32))


def test_contigs_share_batches_and_come_back_in_order():
  codes = [random_codes(n, seed=n) for n in (10, 4000, 1, 2048, 700, 130)]
  model = predictor(batch_windows=4)
  together = list(model.predict_many(Request(c, circular=True) for c in codes))
  assert model._forward.calls == 3  # 1 + 4 + 1 + 2 + 1 + 1 windows
  for one, result in zip(codes, together, strict=True):
    alone = predictor(batch_windows=1).predict(one, circular=True)
    for head in HEADS:
      assert np.array_equal(getattr(result, head), getattr(alone, head))


class AnyShape(StandIn):
  """Takes batches of any shape, and keeps them."""

  def __init__(self):
    super().__init__(1)
    self.shapes = []

  def __call__(self, windows, both):
    self.shapes.append(windows.shape)
    self.shape = windows.shape
    return super().__call__(windows, both)


def test_short_linear_contigs_have_short_windows_and_come_back_in_order():
  options = {"window_bp": 16_384, "margin_bp": 4096, "batch_windows": 2}
  model = Predictor(AnyShape(), TABLE, **options)
  lengths = [*(900 for _ in range(20)), 5000, 40_000, 1, 1500, 8193, 2049, 700]
  codes = [random_codes(n, seed=i) for i, n in enumerate(lengths)]
  results = list(model.predict_many([Request(c, False) for c in codes], units="z"))
  assert [len(result.gene_expression) for result in results] == lengths
  for one, result in zip(codes, results, strict=True):
    if len(one) > 1024:
      expected = whole_contig(one, len(one) <= 16_384)["gene_expression"]
    else:  # convolutions see no more of its repeats than the window has
      (tile,) = plan_tiles(len(one), window_bp=1024, margin_bp=0, circular=False)
      window = raw_tracks(tile_codes(one, tile, 1024, True))["gene_expression"]
      expected = window[-tile.window_start :][: len(one)]
    np.testing.assert_allclose(result.gene_expression, expected, atol=2e-5)
  # 22 of up to 1,024 bp, one, two of up to 8,192, and whole windows, as many bases a batch.
  shapes = [(2, 16_384), (4, 8192), (16, 2048), (32, 1024)]
  assert sorted(set(model._forward.shapes)) == shapes
  assert model._forward.shapes.count((32, 1024)) == 1


def test_a_waiting_batch_delays_what_follows_by_so_much():
  model = Predictor(AnyShape(), TABLE, window_bp=16_384, margin_bp=4096, batch_windows=1)
  requests = [Request(random_codes(500), False)]
  requests += [Request(random_codes(16_384, seed=i), False) for i in range(40)]
  taken = []

  def given():
    for i, request in enumerate(requests):
      taken.append(i)
      yield request

  next(model.predict_many(given()))
  assert MOST_WAITING < len(taken) <= MOST_WAITING + 4


@pytest.mark.parametrize("interval", [(0, 1), (3000, 5000), (4999, 5000), (128, 4000)])
def test_interval_has_the_values_of_the_whole(interval):
  codes = random_codes(5000)
  whole = predictor().predict(codes, circular=True)
  model = predictor(batch_windows=1)
  part = model.predict(codes, circular=True, interval=interval)
  assert part.start <= interval[0] and part.end >= interval[1]
  assert part.start % 128 == 0 and (part.end % 128 == 0 or part.end == 5000)
  assert np.array_equal(part.gene_expression, whole.gene_expression[part.start : part.end])
  assert np.array_equal(part.operon_membership, whole.operon_membership[part.start : part.end])
  bins = slice(part.start // 128, -(-part.end // 128))
  assert np.array_equal(part.gene_density, whole.gene_density[bins])
  if interval == (0, 1):
    assert model._forward.calls == 1


@pytest.mark.parametrize("interval", [(-1, 10), (10, 10), (0, 5001)])
def test_interval_outside_the_sequence_is_refused(interval):
  with pytest.raises(ConfigError, match="5000"):
    predictor().predict(random_codes(5000), interval=interval)


def test_units_are_the_inverse_of_the_transform():
  codes = random_codes(3000)
  z = predictor().predict(codes, units="z")
  logs = predictor().predict(codes)
  tpm = predictor().predict(codes, units="tpm")
  np.testing.assert_allclose(
    logs.gene_expression, z.gene_expression * [2.0, 0.5] + [3.0, 2.0], rtol=1e-6
  )
  np.testing.assert_allclose(
    tpm.gene_expression, np.maximum(np.exp(logs.gene_expression) - 1, 0), rtol=1e-5, atol=1e-6
  )
  assert (logs.units, logs.track_units["gene_expression"]) == ("log_tpm", "ln(1 + TPM)")
  for source in (z, logs, tpm):
    for units, expected in (("log_tpm", logs), ("tpm", tpm), ("z", z)):
      converted = source.in_units(units)
      assert converted.units == units and converted.gene_expression.dtype == np.float32
      known = (logs.gene_expression > 0) if source is tpm else np.ones((3000, 2), bool)
      np.testing.assert_allclose(
        converted.gene_expression[known], expected.gene_expression[known], rtol=1e-4, atol=1e-4
      )


def test_head_without_training_gives_nan():
  result = predictor(trained_heads=("gene_density",)).predict("ACGT")
  assert np.isnan(result.gene_expression).all() and np.isnan(result.operon_membership).all()
  assert np.isfinite(result.gene_density).all()


def test_letters_of_either_case_and_codes_are_the_same_sequence():
  text = decode(random_codes(300)).replace("N", "R")
  by_codes = predictor().predict(encode(text.replace("R", "N")))
  for sequence in (text, text.lower(), text.encode(), encode(text).astype(np.int64)):
    assert np.array_equal(predictor().predict(sequence).gene_expression, by_codes.gene_expression)


@pytest.mark.parametrize(
  ("sequence", "text"),
  [
    ("", "empty"),
    ("ACG!", "'!'"),
    (np.array([0, 7]), "0 to 7"),
    (np.zeros((2, 2), np.uint8), "shape"),
    (np.zeros(3), "float64"),
  ],
  ids=["empty", "letter", "code", "shape", "dtype"],
)
def test_bad_sequence_is_one_line(sequence, text):
  with pytest.raises(DataError, match=text) as caught:
    predictor().predict(sequence)
  assert "\n" not in str(caught.value)


def test_bad_options_are_refused():
  with pytest.raises(ConfigError, match="log_tpm, tpm, z"):
    predictor().predict("ACGT", units="fpkm")
  with pytest.raises(ConfigError, match="batch_windows=0"):
    predictor(batch_windows=0)
  with pytest.raises(ConfigError, match="margin_bp=1024"):
    predictor(margin_bp=1024)


def test_progress_adds_up_to_the_bases():
  seen = []
  predictor().predict(random_codes(32_345), circular=True, progress=seen.append)
  assert sum(seen) == 32_345 and len(seen) > 3


def test_table_names_the_columns():
  assert predictor().predict("ACGT").tracks == TABLE.names
