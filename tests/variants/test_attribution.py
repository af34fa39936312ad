"""Gradients by the sequence: against differences of the model itself, and sums that must hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alphaecoli import score
from alphaecoli.api import EnsemblePredictor, Predictor
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import read_json
from alphaecoli.genomics.genes import ContigFeatures, Gene
from alphaecoli.genomics.sequence import Contig, decode
from alphaecoli.inference.arguments import AnnotatedGenome
from alphaecoli.inference.compiled import CompiledModel
from alphaecoli.model.model import reverse_complement
from alphaecoli.variants.attribution import promoters
from tests.inference.runs import WINDOW_BP, tiny_model
from tests.inference.standin import TABLE

HEADS = ("gene_expression", "gene_density", "operon_membership")
CODES = np.random.default_rng(4).integers(0, 4, WINDOW_BP).astype(np.uint8)
CODES[2005] = 4
SPAN = (2100, 2300)  # of the target
CHANNELS = ("expression:heat/+", "expression:heat/-", "density", "membership")


def load(seed=0, like=()):
  model = tiny_model(seed)
  forward = CompiledModel(model, TABLE, jax.local_devices()[:1])
  forward.share_programs(like)
  return model, Predictor(forward, TABLE, window_bp=WINDOW_BP, batch_windows=2, trained_heads=HEADS)


@pytest.fixture(scope="module")
def loaded():
  return load()


def value(model, bases):
  """The target's mean of every channel, from one-hot bases."""
  out = {name: np.asarray(v[0]) for name, v in run(model, bases).items()}
  rows = slice(*SPAN)
  z = out["gene_expression"][rows]
  log_tpm = z * [track.std for track in TABLE.expression] + [t.mean for t in TABLE.expression]
  density = np.repeat(out["gene_density"][:, 0], 128)[rows]
  membership = 1 / (1 + np.exp(-out["operon_membership"][rows, 0]))
  return np.array([*log_tpm.mean(axis=0), density.mean(), membership.mean()], float)


@nnx.jit
def run_jit(model, bases):
  return model(bases, jnp.zeros(1, jnp.int32))


def run(model, bases):
  return run_jit(model, jnp.asarray(bases)[None])


def one_hot(codes):
  return np.eye(5, 4, dtype=np.float32)[codes]


def density(bins):
  """Weights of density alone; the others are there so that one program does for all tests."""
  return {
    "gene_expression": np.zeros((1, WINDOW_BP, 2), np.float32),
    "gene_density": bins[None, :, None],
    "operon_membership": np.zeros((1, WINDOW_BP, 1), np.float32),
  }


def known(codes=CODES):
  return AnnotatedGenome([Contig("c", codes)], {"c": ContigFeatures([])})


def test_one_hot_bases_are_the_codes_bit_for_bit(loaded):
  model, _ = loaded
  for name, values in run(model, one_hot(CODES)).items():
    expected = run(model, CODES)[name]
    np.testing.assert_array_equal(np.asarray(values), np.asarray(expected))


def test_reverse_complement_of_one_hot_bases():
  codes = jnp.asarray(CODES)[None]
  expected = one_hot(np.asarray(reverse_complement(codes)))
  np.testing.assert_array_equal(reverse_complement(jnp.asarray(one_hot(CODES))[None]), expected)


def test_gradient_is_the_slope_of_the_model(loaded):
  """Towards another base; pooling makes kinks, so differences are near it."""
  model, predictor = loaded
  result = predictor.ism("c:2001-2010", known(), target=("c", *SPAN), method="gradient")
  assert result.method == "gradient" and result.changes.shape == (10, 4, 4)
  for offset, code in enumerate(result.reference[:7].tolist()):
    if code == 4:
      assert np.isnan(result.changes[offset]).all() and offset == 5
      continue
    assert (result.changes[offset, code] == 0).all()
    other = (code + 1) % 4
    step = np.zeros((WINDOW_BP, 4), np.float32)
    step[2000 + offset, [other, code]] = 0.02, -0.02
    slope = (value(model, one_hot(CODES) + step) - value(model, one_hot(CODES) - step)) / 0.04
    size = np.abs(result.changes).max(axis=(0, 1), where=~np.isnan(result.changes), initial=0)
    assert (np.abs(result.changes[offset, other] - slope) < 0.1 * size + 1e-4).all()


def test_integrated_gradients_add_up_to_what_the_region_does(loaded):
  """Pooling makes kinks, so that 32 steps sum up to some per cent."""
  model, predictor = loaded
  result = predictor.ism("c:2061-2090", known(), target=("c", *SPAN), method="integrated", steps=32)
  without = one_hot(CODES)
  without[2060:2090] = 0.25
  expected = value(model, one_hot(CODES)) - value(model, without)
  total = [0.75 * result.importance(channel).sum() for channel in CHANNELS]
  np.testing.assert_allclose(total, expected, rtol=0.2, atol=2e-3)
  np.testing.assert_allclose(result.baseline, value(model, one_hot(CODES)), rtol=1e-4, atol=1e-4)


def test_simplex_correction_takes_out_what_all_letters_share(loaded):
  _, predictor = loaded
  result = predictor.ism("c:2010-2020", known(), target=("c", *SPAN), method="gradient")
  # density counts at each base of its bin: weigh the two bins by the target's bases in them
  bins = np.zeros(WINDOW_BP // 128, np.float32)
  np.add.at(bins, np.arange(*SPAN) // 128, 1 / 200)
  slope = predictor.gradients(one_hot(CODES)[None], density(bins))[0, 2009:2020]
  own = slope[np.arange(11), CODES[2009:2020]] - slope.mean(axis=1)
  np.testing.assert_allclose(0.75 * result.importance("density"), own, rtol=1e-3, atol=1e-7)


def test_ensemble_is_the_mean_of_its_members_with_a_spread(loaded):
  one, other = loaded[1], load(1, [loaded[1]._forward])[1]
  for number, member in enumerate((one, other)):
    member.about = {"checkpoint": str(number)}
  together = EnsemblePredictor([one, other], about={"checkpoint": "E"})
  each = [
    p.ism("c:2001-2010", known(), target=("c", *SPAN), method="gradient")
    for p in (one, other, together)
  ]
  close = {"rtol": 1e-4, "atol": 1e-6}
  np.testing.assert_allclose(each[2].changes, (each[0].changes + each[1].changes) / 2, **close)
  np.testing.assert_allclose(
    each[2].spread, np.abs(each[0].changes - each[1].changes) / np.sqrt(2), **close
  )
  assert "expression_change_spread:heat/+" in each[2].columns()


def test_small_ring_counts_every_copy_of_a_base(loaded):
  """A ring of half a window is there twice: the slope by a base is that by both copies."""
  _, predictor = loaded
  half = CODES[: WINDOW_BP // 2]
  genome = AnnotatedGenome([Contig("c", half, circular=True)])
  result = predictor.ism("c:101-104", genome, target=("c", 200, 300), method="gradient")
  window = np.tile(half, 2)
  first = result.window[0]
  rows = (np.arange(200, 300) - first) % len(half)
  low = min(max(102 - first - len(half) // 2, 0), len(half))  # the copy that counts
  rows = low + (rows - low) % len(half)
  bins = np.zeros(WINDOW_BP // 128, np.float32)
  np.add.at(bins, rows // 128, 0.01)
  slope = predictor.gradients(one_hot(np.roll(window, -first))[None], density(bins))[0]
  both = slope.reshape(2, len(half), 4).sum(axis=0)[(np.arange(100, 104) - first) % len(half)]
  expected = both - both[np.arange(4), half[100:104]][:, None]
  np.testing.assert_allclose(result.changes[:, :, -2], expected, rtol=1e-3, atol=1e-6)


def test_unknown_method_is_one_line(loaded):
  with pytest.raises(ConfigError, match="method='shap' with steps=16; expected gradient or"):
    loaded[1].ism("c:1-9", known(), method="shap")


def genes(*bounds):
  placed = [Gene(f"g{a}", f"g{a}", "", a, b, s, "gene", contig="c") for a, b, s in bounds]
  return AnnotatedGenome([Contig("c", CODES)], {"c": ContigFeatures(placed)})


def test_promoters_are_bases_before_genes_that_lie_in_no_gene():
  genome = genes((300, 500, 1), (520, 600, 1), (700, 900, -1), (1000, 1100, -1), (20, 40, 1))
  found = promoters(genome, 100, 3)
  assert {(gene.start, start, end) for gene, start, end in found} == {
    (300, 200, 300),
    (700, 900, 1000),
    (1000, 1100, 1200),
  }
  with pytest.raises(DataError, match=r"3 genes have 100 bp before them .* expected 4"):
    promoters(genome, 100, 4)


def test_command_reports_the_agreement_with_mutagenesis(loaded, tmp_path, monkeypatch):
  monkeypatch.setattr("alphaecoli.api.load_predictor", lambda *a, **k: loaded[1])
  (tmp_path / "c.fa").write_text(f">c\n{decode(CODES)}\n")
  (tmp_path / "c.gff3").write_text("c\t.\tgene\t2101\t2300\t.\t+\t.\tID=g1;Name=toyA\n")
  flags = ["--checkpoint", "C", "--fasta", str(tmp_path / "c.fa"), "--out"]
  flags += [str(tmp_path / "o.tsv"), "--annotation", str(tmp_path / "c.gff3"), "--upstream", "8"]
  assert score.main([*flags, "--agreement", "1"]) == 0
  header, row = (line.split("\t") for line in (tmp_path / "o.tsv").read_text().splitlines())
  found = dict(zip(header, row, strict=True))
  assert (found["gene"], found["start"], found["end"]) == ("toyA", "2093", "2100")
  for method in ("gradient", "integrated"):
    assert -1 <= float(found[f"{method}_substitutions"]) <= 1 and float(found[f"{method}_s"]) > 0
  assert float(found["substitutions_s"]) > 0
  assert list(read_json(tmp_path / "o.json")["quartiles"]) == list(found)[4:]
  assert score.main([*flags, "--ism-gene", "toyA", "--method", "gradient"]) == 0
  assert len((tmp_path / "o.tsv").read_text().splitlines()) == 1 + 8 * 3
  assert (tmp_path / "o.png").stat().st_size > 5000
  with pytest.raises(ConfigError, match="--agreement=0"):
    score.main([*flags, "--agreement", "0"])
