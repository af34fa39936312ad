"""Neighbours and operons by hand, on lines and rings."""

import dataclasses

import numpy as np
import pytest

from alphaecoli.genomics.gene_models import (
  LINEAR_FEATURES,
  ExpressionModel,
  GeneModels,
  TrackModel,
)
from alphaecoli.genomics.genes import Gene
from alphaecoli.inference.operon_calls import (
  GenePair,
  PredictedGenes,
  by_junction,
  gene_pairs,
  in_order,
  operons_of_bases,
  operons_of_genes,
)
from alphaecoli.inference.prediction import Prediction
from alphaecoli.tracks.exposure import Origin
from tests.inference.standin import TABLE


def gene(start, end, strand=1, name=""):
  return Gene(name or f"g{start}", name, f"b{start}", start, end, strand, "gene", contig="c")


def test_pairs_by_hand():
  membership = np.linspace(0, 0.99, 100)
  genes = [gene(60, 70, -1), gene(0, 10), gene(14, 20), gene(18, 30), gene(40, 50, -1)]
  genes = in_order(genes)
  pairs = gene_pairs(genes, membership, circular=False)
  assert [(p.left, p.right, p.distance_bp) for p in pairs] == [(0, 1, 4), (1, 2, -2), (3, 4, 10)]
  # Midpoints: 5, 17, 24, 45, 65.
  means = [membership[a:b].mean() for a, b in ((5, 17), (17, 24), (45, 65))]
  np.testing.assert_allclose([p.probability for p in pairs], means, rtol=1e-12)


def test_ring_pairs_the_last_gene_with_the_first():
  membership = np.arange(100) / 100
  genes = [gene(6, 20), gene(40, 50, -1), gene(90, 102)]
  (pair,) = gene_pairs(genes, membership, circular=True)
  assert (pair.left, pair.right, pair.distance_bp) == (2, 0, 4)
  between = [*range(96, 100), *range(13)]  # midpoints 96 and 113
  assert pair.probability == pytest.approx(membership[between].mean())
  assert gene_pairs(genes, membership, circular=False) == []
  assert gene_pairs(genes[:1], membership, circular=True) == []
  assert gene_pairs([], membership, circular=True) == []


@pytest.mark.parametrize("seed", range(5))
def test_turning_a_ring_turns_its_pairs_and_operons(seed):
  rng = np.random.default_rng(seed)
  length, n = 1000, 12
  starts = np.sort(rng.choice(length, n, replace=False))
  spans = [(s, s + int(rng.integers(10, 120)), int(rng.choice([-1, 1]))) for s in starts.tolist()]
  membership = rng.random(length)

  def called(shift):
    moved = [gene((s + shift) % length, (s + shift) % length + e - s, t, f"{s}")
             for s, e, t in spans]  # fmt: skip
    genes, values = in_order(moved), np.roll(membership, shift)
    pairs = gene_pairs(genes, values, circular=True)
    operons = operons_of_genes(genes, pairs, values, 0.45)
    names = lambda numbers: tuple(genes[i].name for i in numbers)  # noqa: E731
    return (
      {names((p.left, p.right)): (p.distance_bp, round(p.probability, 9)) for p in pairs},
      {(names(o.genes), (o.start - shift) % length, o.end - o.start, round(o.probability, 9))
       for o in operons},
    )  # fmt: skip

  assert called(0)[1]
  for shift in (1, 333, 871):
    assert called(shift) == called(0)


def test_junctions_replace_the_probability_of_their_own_strand():
  genes = [gene(0, 100), gene(150, 260), gene(300, 390, -1), gene(380, 480, -1)]
  membership, junction = np.full(1000, 0.25), np.random.default_rng(0).random((1000, 2))
  pairs = gene_pairs(genes, membership, circular=False)
  found = by_junction(genes, pairs, junction)
  # The gap of the first pair and 30 bp on either side; the overlap of the second and as much.
  means = [junction[70:180, 0].mean(), junction[350:420, 1].mean()]
  np.testing.assert_allclose([p.probability for p in found], means, rtol=1e-12)
  assert [p.probability_membership for p in found] == pytest.approx([0.25, 0.25])
  assert [(p.left, p.right, p.distance_bp) for p in found] == [(0, 1, 50), (2, 3, -10)]
  assert [p.probability_membership for p in pairs] == [None, None]
  assert by_junction([], [], junction) == []


def test_a_junction_across_the_origin():
  genes = [gene(20, 200), gene(900, 990)]
  junction = np.random.default_rng(1).random((1000, 2))
  pairs = gene_pairs(genes, np.ones(1000), circular=True)
  inside, across = by_junction(genes, pairs, junction)
  assert inside.probability == pytest.approx(junction[170:930, 0].mean())
  assert across.probability == pytest.approx(junction[[*range(960, 1000), *range(50)], 0].mean())
  (operon,) = operons_of_genes(genes, [across], np.ones(1000), 0.0)
  assert (operon.start, operon.end, operon.genes) == (900, 1200, (1, 0))


def test_chains_break_at_the_threshold_and_at_other_strands():
  genes = [gene(0, 10), gene(10, 20), gene(20, 35), gene(35, 38, -1), gene(40, 50), gene(50, 60)]
  pairs = [GenePair(0, 1, 0, 0.9), GenePair(1, 2, 0, 0.5), GenePair(4, 5, 0, 0.49)]
  membership = np.linspace(0, 1, 60)
  (operon,) = operons_of_genes(genes, pairs, membership, 0.5)
  assert (operon.start, operon.end, operon.strand, operon.genes) == (0, 35, 1, (0, 1, 2))
  assert operon.probability == pytest.approx(membership[:35].mean())
  assert [o.genes for o in operons_of_genes(genes, pairs, membership, 0.4)] == [(0, 1, 2), (4, 5)]
  assert operons_of_genes([], [], membership) == []


def test_expression_of_a_gene_is_weighed_by_the_models_of_those_that_predicted_it():
  length, table = 128, dataclasses.replace(TABLE, expression=TABLE.expression[:1])

  def model(bias):
    track = TrackModel(20.0, [0.0] * LINEAR_FEATURES, 0.0, bias)
    return GeneModels(expression=ExpressionModel({"heat/+": track}))

  by = np.zeros((3, length), bool)
  by[1], by[2, 60:] = True, True
  values = (np.zeros((n, 1), np.float32) for n in (length, 1, length))
  found = Prediction(*values, table, origin=Origin(by, by[0]))
  genes = PredictedGenes([gene(3, 33), gene(60, 90)], np.zeros(length, np.uint8), False)
  # The first member predicts nothing, so that it needs no model.
  log_tpm = genes.log_tpm(found, [GeneModels(), model(1.0), model(2.0)])
  np.testing.assert_allclose(log_tpm, table.to_log_tpm(np.array([[1.0], [1.5]])), rtol=1e-6)
  assert genes.log_tpm(found, [model(1.0), GeneModels(), model(2.0)]) is None


def test_chains_follow_the_pair_model_where_there_is_one():
  genes = [gene(0, 10), gene(10, 20), gene(20, 35)]
  pairs = [GenePair(0, 1, 0, 0.9, 0.9, 0.1), GenePair(1, 2, 0, 0.1, 0.1, 0.9)]
  assert [o.genes for o in operons_of_genes(genes, pairs, np.ones(35))] == [(1, 2)]


def test_operon_across_the_origin_and_a_ring_that_is_one_chain():
  genes = [gene(5, 20), gene(30, 60), gene(80, 95)]
  pairs = [GenePair(0, 1, 10, 0.6), GenePair(1, 2, 20, 0.1), GenePair(2, 0, 10, 0.9)]
  (operon,) = operons_of_genes(genes, pairs, np.ones(100), 0.5)
  assert (operon.start, operon.end, operon.genes) == (80, 160, (2, 0, 1))
  (whole,) = operons_of_genes(genes, pairs, np.ones(100), 0.1)
  assert (whole.start, whole.end, whole.genes) == (80, 160, (2, 0, 1))


def test_gene_that_reaches_past_the_others_ends_the_operon():
  genes = [gene(0, 50), gene(10, 20), gene(30, 40)]
  pairs = [GenePair(0, 1, -40, 0.9), GenePair(1, 2, 10, 0.9)]
  (operon,) = operons_of_genes(genes, pairs, np.ones(100))
  assert (operon.start, operon.end) == (0, 50)


def test_regions_close_small_gaps_and_drop_short_ones():
  membership = np.zeros(3000)
  membership[[*range(100, 300), *range(400, 600)]] = 0.5  # a gap of 100
  membership[1000:1299] = 0.9  # too short
  membership[2000:2300] = 0.8
  found = operons_of_bases(membership, circular=False)
  assert [(o.start, o.end, o.strand, o.genes) for o in found] == [
    (100, 600, 0, ()),
    (2000, 2300, 0, ()),
  ]
  assert found[0].probability == pytest.approx(0.4)


def test_region_across_the_origin_of_a_circular_genome():
  membership = np.zeros(2000)
  membership[[*range(150), *range(1800, 1990)]] = 1.0
  assert operons_of_bases(membership, circular=False) == []
  (operon,) = operons_of_bases(membership, circular=True)
  assert (operon.start, operon.end) == (1800, 2150)
  assert [(o.start, o.end) for o in operons_of_bases(np.ones(500), circular=True)] == [(0, 500)]
