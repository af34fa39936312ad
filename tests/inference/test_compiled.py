"""Prediction with a real, untrained model: devices, strands and seams."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import alphaecoli
from alphaecoli.api import Predictor
from alphaecoli.checkpoints import packed
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.evaluation.evaluator import make_predict
from alphaecoli.genomics.sequence import Contig, decode, encode, reverse_complement
from alphaecoli.inference.compiled import HEADS, CompiledModel, data_mesh
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.hardware import default_batch, local_devices
from alphaecoli.tracks.track_table import trained_heads
from tests.inference.runs import CONFIG, TINY, WINDOW_BP, save_run, tiny_model
from tests.inference.standin import TABLE

CODES = np.random.default_rng(0).integers(0, 4, 4 * WINDOW_BP).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
  return tiny_model()


@pytest.fixture(scope="module")
def forward(model):
  """Compiled once for two devices; all tests use batches of two windows."""
  return CompiledModel.of(model, TABLE, jax.local_devices()[:2])


def predictor(forward, margin_bp=None) -> Predictor:
  return Predictor(
    forward,
    TABLE,
    window_bp=WINDOW_BP,
    margin_bp=margin_bp,
    batch_windows=2,
    trained_heads=tuple(HEADS),
  )


def phase_error(forward, margin_bp, shift_bp, codes=CODES):
  """Root mean square difference to tiles of another phase, over the track's deviation."""
  model = predictor(forward, margin_bp)
  first = model.predict(codes, circular=True, units="z")
  other = model.predict(np.roll(codes, -shift_bp), circular=True, units="z")
  errors = {}
  for head in HEADS:
    values = getattr(first, head)
    step = shift_bp // 128 if head == "gene_density" else shift_bp
    difference = values - np.roll(getattr(other, head), step, axis=0)
    errors[head] = float(np.sqrt(np.mean(difference**2)) / values.std())
  return errors


def test_overlap_takes_the_seams_away(forward):
  short = CODES[: 3 * WINDOW_BP]  # in a stretch, convolutions have no seams but at its ends
  default = phase_error(forward, None, 1024, short)
  without = phase_error(forward, 0, 1024, short)
  # Attention sees the whole window, so bins differ a little wherever the window lies.
  limits = {
    "gene_expression": (0.1, 4),
    "gene_density": (0.1, 1.5),
    "operon_membership": (0.25, 4),
  }
  for head, (most, gain) in limits.items():
    assert default[head] < most, head
    assert default[head] * gain < without[head], head


def test_ring_turned_by_the_kept_part_is_the_same_prediction(forward):
  short = CODES[: 3 * WINDOW_BP]  # of windows; the other one of stretches, which keep 14,336 bp
  long = np.resize(np.roll(CODES, 77), 2 * 14_336)
  for codes, kept_bp in ((short, WINDOW_BP // 2), (long, 14_336)):
    assert max(phase_error(forward, None, kept_bp, codes).values()) < 1e-5


def test_stretches_say_what_windows_say(forward, monkeypatch):
  """But for convolutions at the windows' ends, which now see what lies beyond."""
  contigs = [(CODES, True), (np.resize(CODES, 5 * WINDOW_BP + 300), False)]
  model = predictor(forward)
  requests = [alphaecoli.Request(*contig) for contig in contigs]
  stretches = list(model.predict_many(requests, reverse_complement=True, units="z"))
  monkeypatch.setattr("alphaecoli.inference.tiling.MOST_STRETCH_BP", 0)
  windows = list(model.predict_many(requests, reverse_complement=True, units="z"))
  for one, other in zip(stretches, windows, strict=True):
    for head in HEADS:
      values, expected = getattr(one, head), getattr(other, head)
      difference = np.sqrt(np.mean((values - expected) ** 2)) / expected.std()
      assert 1e-6 < difference < 0.1, head


def test_window_is_the_models_output(forward, model):
  graph, state = nnx.split(model)
  codes = CODES[: 2 * WINDOW_BP].reshape(2, WINDOW_BP)
  raw = jax.jit(lambda s, c: nnx.merge(graph, s)(c, jnp.zeros(2, jnp.int32)))(state, codes)
  for row in range(2):
    result = predictor(forward).predict(codes[row], units="z")
    expected = {name: np.asarray(values[row]) for name, values in raw.items()}
    for head in HEADS:
      if HEADS[head].output == "sigmoid":
        expected[head] = 1 / (1 + np.exp(-expected[head]))
      np.testing.assert_allclose(getattr(result, head), expected[head], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [WINDOW_BP, 4 * WINDOW_BP], ids=["window", "stretch"])
def test_average_of_both_strands_does_not_depend_on_the_strand(forward, length):
  codes = CODES[:length]
  ahead = predictor(forward).predict(codes, reverse_complement=True, units="z")
  back = predictor(forward).predict(reverse_complement(codes), reverse_complement=True, units="z")
  single = predictor(forward).predict(codes, units="z")
  np.testing.assert_allclose(
    ahead.gene_expression, back.gene_expression[::-1, ::-1], rtol=1e-4, atol=1e-4
  )
  np.testing.assert_allclose(ahead.gene_density, back.gene_density[::-1], rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(
    ahead.operon_membership, back.operon_membership[::-1], rtol=1e-4, atol=1e-4
  )
  swapped = [*range(4, 8), *range(4)]  # channels of the other strand
  np.testing.assert_allclose(
    ahead.gene_structure, back.gene_structure[::-1, swapped], rtol=1e-4, atol=1e-4
  )
  np.testing.assert_allclose(
    ahead.operon_junction, back.operon_junction[::-1, ::-1], rtol=1e-4, atol=1e-4
  )
  assert np.abs(ahead.gene_expression - single.gene_expression).max() > 1e-2


def test_evaluation_averages_strands_as_prediction_does(forward, model):
  codes = CODES[: 2 * WINDOW_BP].reshape(2, WINDOW_BP)
  functional = FunctionalModel.of_model(TINY, TABLE)
  mesh = data_mesh(jax.local_devices()[:2])
  batch = {"sequence": codes, "organism": np.zeros(2, np.int32)}
  with jax.set_mesh(mesh):
    found = make_predict(functional, mesh, TABLE)(*functional.split(model), batch)
  for name, values in forward(codes, True).items():
    raw = np.asarray(found[name])
    shown = 1 / (1 + np.exp(-raw)) if HEADS[name].output == "sigmoid" else raw
    np.testing.assert_allclose(shown, values, rtol=1e-4, atol=1e-4, err_msg=name)


def test_embeddings_are_the_trunks(model, forward):
  codes = CODES[: 2 * WINDOW_BP]
  found = predictor(forward).embed(codes, (WINDOW_BP, 2 * WINDOW_BP))
  expected = jax.jit(lambda model, codes: model.embed(codes, jnp.zeros(1, jnp.int32)))(
    model, codes[None, WINDOW_BP:]
  )
  for name, values in found.to_numpy().items():
    np.testing.assert_allclose(values, getattr(expected, name)[0], rtol=1e-4, atol=1e-4)
  assert found.pair.shape[:2] == (2, 2)


@pytest.mark.parametrize("both", [False, True], ids=["one-strand", "both-strands"])
def test_score_is_the_difference_of_two_predictions(forward, both):
  model, start = predictor(forward), 9000
  ref = decode(CODES[start : start + 3])
  variants = [
    alphaecoli.Variant("c", start + 1, ref, "".join("ACGT"["TGCA".index(b)] for b in ref)),
    alphaecoli.Variant("c", start + 1, ref, ref[0]),
  ]
  contig = Contig("c", CODES, circular=True)
  whole, deletion = model.score_variants(variants, contig, reverse_complement=both).scores

  def full(codes):
    result = model.predict(
      codes, whole.window, circular=True, one_window=True, reverse_complement=both
    )
    density = np.repeat(result.gene_density, 128, axis=0)
    return np.hstack([result.gene_expression, density, result.operon_membership])

  before, at = full(CODES), start - whole.window[0]
  changed = CODES.copy()
  changed[start : start + 3] = encode(variants[0].alt)
  change = full(changed) - before
  assert np.abs(change[at : at + 3]).max() > 1e-3
  close = {"rtol": 1e-4, "atol": 1e-5}
  np.testing.assert_allclose(whole.changes["at_variant"], change[at : at + 3].mean(0), **close)
  np.testing.assert_allclose(whole.changes["mean_abs"], np.abs(change).mean(0), **close)
  np.testing.assert_allclose(whole.changes["max_abs"], np.abs(change).max(0), **close)
  shorter = full(np.delete(CODES, [start + 1, start + 2]))
  moved = np.vstack([shorter[: at + 1] - before[: at + 1], shorter[at + 1 : -2] - before[at + 3 :]])
  np.testing.assert_allclose(deletion.changes["mean_abs"], np.abs(moved).mean(0), **close)
  np.testing.assert_allclose(deletion.changes["at_variant"], moved[at], **close)


def test_head_without_weight_or_data_counts_as_untrained():
  assert trained_heads(CONFIG.loss.weights, TABLE) == tuple(HEADS)
  weights = dataclasses.replace(CONFIG.loss.weights, gene_density=0.0)
  no_operons = dataclasses.replace(TABLE, has_operons=False)
  assert trained_heads(weights, no_operons) == ("gene_expression", "gene_structure")


def test_devices_by_platform():
  assert local_devices("cpu") == local_devices(None) == jax.local_devices()
  assert local_devices(jax.devices()[1]) == [jax.devices()[1]]
  with pytest.raises(ConfigError, match=r"device='tpux' is not available here; JAX has cpu"):
    local_devices("tpux")
  assert default_batch(98_304, jax.local_devices()) == 8
  assert default_batch(8_192, jax.local_devices()[:2]) == 8


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
  """The directory of a run that has saved the model once."""
  return save_run(tmp_path_factory.mktemp("run"), model)


def test_checkpoint_and_fasta_are_all_that_prediction_needs(run, forward, tmp_path):
  loaded = alphaecoli.load_predictor(run, device=jax.local_devices()[:2], batch_windows=1)
  assert loaded.batch_windows == 2  # one for each device
  assert loaded.window_bp == WINDOW_BP and loaded.table == TABLE
  assert loaded.about["step"] == 7 and loaded.about["checkpoint"].endswith("checkpoints/7")
  json.dumps(loaded.about)
  result = loaded.predict(CODES, circular=True)
  expected = predictor(forward).predict(CODES, circular=True)
  for head in HEADS:
    np.testing.assert_allclose(getattr(result, head), getattr(expected, head), rtol=1e-4, atol=1e-4)


def test_a_checkpoint_of_before_the_auxiliary_heads_gives_its_tracks(model, forward, tmp_path):
  heads = {name: head for name, head in HEADS.items() if not head.auxiliary}
  now, functional = (FunctionalModel.of_model(TINY, TABLE, table) for table in (HEADS, heads))
  older = functional.merge(*now.split(model))
  loaded = alphaecoli.load_predictor(save_run(tmp_path, older), batch_windows=2)
  assert loaded.trained_heads == tuple(heads)
  assert loaded.about["config"]["loss"]["weights"]["gene_structure"] == 0
  result, expected = loaded.predict(CODES), predictor(forward).predict(CODES)
  assert result.gene_structure.shape == (0, 8) and result.operon_junction.shape == (0, 2)
  assert expected.gene_structure.shape == (len(CODES), 8)
  for head in heads:
    np.testing.assert_allclose(getattr(result, head), getattr(expected, head), rtol=1e-4, atol=1e-4)


def test_another_window_is_a_choice(run):
  loaded = alphaecoli.load_predictor(run, device=jax.devices()[0], window_bp=2048)
  assert loaded.window_bp == 2048 and loaded.margin_bp == 512
  assert loaded.predict(CODES[:3000]).end == 3000
  with pytest.raises(ConfigError, match="window_bp=3000; expected a multiple of 2048"):
    alphaecoli.load_predictor(run, window_bp=3000)


def test_missing_checkpoint_is_one_line(tmp_path):
  with pytest.raises(DataError, match="no checkpoint"):
    alphaecoli.load_predictor(tmp_path)
  with pytest.raises(ConfigError, match="batch_windows=0"):
    alphaecoli.load_predictor(tmp_path, batch_windows=0)


@pytest.fixture
def cache(tmp_path):
  """Tells JAX of a directory for compiled programs."""
  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", str(tmp_path))
  yield tmp_path
  jax.config.update("jax_compilation_cache_dir", before)


def test_a_second_load_takes_the_program_from_the_cache(run, cache, monkeypatch):
  one = {"device": jax.devices()[0], "batch_windows": 1}
  first = alphaecoli.load_predictor(run, **one).predict(CODES[:WINDOW_BP], one_window=True)
  monkeypatch.setattr(FunctionalModel, "of_config", None)  # nothing is traced
  again = alphaecoli.load_predictor(run, **one).predict(CODES[:WINDOW_BP], one_window=True)
  for head in HEADS:
    np.testing.assert_array_equal(getattr(first, head), getattr(again, head))


def test_a_shipped_ensemble_is_traced_once_and_reads_the_members_it_uses(monkeypatch):
  calls = {"of_config": 0, "read_packed": 0}

  def counted(name, function):
    def call(*args, **kwargs):
      calls[name] += 1
      return function(*args, **kwargs)

    return call

  monkeypatch.setattr(FunctionalModel, "of_config", counted("of_config", FunctionalModel.of_config))
  monkeypatch.setattr(packed, "read_packed", counted("read_packed", packed.read_packed))
  loaded = alphaecoli.load_predictor("k12", device=jax.devices()[0])
  assert len(loaded.members) == 10
  assert calls == {"of_config": 1, "read_packed": 2}
  assert loaded.members[0]._forward.programs is loaded.members[9]._forward.programs
