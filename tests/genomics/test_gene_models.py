"""Features of neighbouring genes by hand, and the logistic model on them."""

import json

import numpy as np
import pytest

from alphaecoli.genomics.gene_features import ContigGenes, codon_counts
from alphaecoli.genomics.gene_models import PairModel, Trees, pair_features
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.sequence import random_genome

CODES = random_genome(2000, 0).codes


def contig(*places, circular=True, **fields) -> ContigGenes:
  values = {"id": "g", "name": "", "locus_tag": "", "type": "gene", **fields}
  return ContigGenes.of([Gene(**values, start=a, end=b, strand=s) for a, b, s in places], CODES,
                        circular)  # fmt: skip


def features(genes, left, right, gap) -> dict[str, float]:
  columns = pair_features(
    genes, codon_counts(genes), *(np.array([value]) for value in (left, right, gap))
  )
  return {name: float(values[0]) for name, values in columns.items()}


def mirrored(places):
  return [(2000 - b, 2000 - a, -s) for a, b, s in reversed(places)]


PLACES = [(0, 90, 1), (110, 410, 1), (404, 644, 1), (800, 1100, 1), (1500, 1800, -1)]


def test_features_by_hand():
  found = features(contig(*PLACES), 1, 2, -6)
  assert (found["overlap"], found["gap"], found["log_gap"]) == (-6, -6, 0)
  assert found["gap_-8_to_0"] == 1 == found["both_coding"]
  assert found["log_gap_upstream"] == pytest.approx(np.log1p(20))
  assert found["log_gap_downstream"] == pytest.approx(np.log1p(156))
  assert [found[f"gap_downstream_above_{k}"] for k in (50, 100, 200)] == [1, 1, 0]
  assert found["log_length_shorter"] == found["log_length_second"] == pytest.approx(np.log(240))
  far = features(contig(*PLACES), 2, 3, 156)
  assert far["linked_downstream"] == 0 and far["log_gap_downstream"] == pytest.approx(np.log1p(600))


def test_the_other_strand_reads_the_same_pair_the_other_way_round():
  found = features(contig(*PLACES), 1, 2, -6)
  turned = ContigGenes.of([], (3 - CODES[::-1]).astype(np.uint8), True)
  genes = contig(*mirrored(PLACES))
  genes = ContigGenes(genes.start, genes.end, genes.strand, genes.type, genes.whole, turned.codes,
                      True)  # fmt: skip
  assert features(genes, 2, 3, -6) == pytest.approx(found, abs=1e-12)


def test_neighbours_across_the_origin_count_on_circular_contigs_alone():
  places = [(100, 400, 1), (500, 800, 1), (1700, 1990, 1)]
  around = features(contig(*places), 0, 1, 100)
  assert around["log_gap_upstream"] == pytest.approx(np.log1p(110))
  assert features(contig(*places, circular=False), 0, 1, 100)["linked_upstream"] == 0


def test_a_gene_codes_for_protein_by_its_biotype_and_in_one_piece_of_whole_codons():
  kinds = [("gene", "", (0, 90)), ("gene", "tRNA", (0, 90)), ("gene", "protein_coding", (0, 90)),
           ("mRNA", "", (0, 91)), ("pseudogene", "", (0, 90))]  # fmt: skip
  genes = [Gene("", "", "", *at, 1, kind, biotype=bio) for kind, bio, at in kinds]
  genes.append(Gene("", "", "", 0, 90, 1, "gene", fragments=((0, 30), (60, 90))))
  genes.append(Gene("", "", "", 0, 90, 0, "gene"))
  found = ContigGenes.of(genes, CODES, True).coding
  assert found.tolist() == [True, False, True, False, False, False, False]


def test_no_pair_and_no_gene_have_no_features():
  none = np.zeros(0, np.int64)
  for genes in (contig(*PLACES), contig()):
    columns = pair_features(genes, codon_counts(genes), none, none, none)
    assert {values.shape for values in columns.values()} == {(0,)}
    assert PairModel({"gap": 1.0}, 0.0).probability(columns).shape == (0,)


def test_the_model_is_logistic_and_survives_json():
  model = PairModel({"a": 2.0, "b": -1.0}, 0.5)
  columns = {"a": np.array([0.0, 1.0, 900.0]), "b": np.array([0.0, 2.5, 0.0]), "c": np.ones(3)}
  expected = [1 / (1 + np.exp(-0.5)), 0.5, 1]
  np.testing.assert_allclose(model.probability(columns), expected, rtol=1e-12)
  text = json.dumps(model.to_json())
  assert PairModel.from_json(json.loads(text)) == model
  assert PairModel.from_json(json.loads(text) | {"version": 0}) is None
  assert PairModel.from_json(None) is None


def test_trees_add_up_leaves_by_hand():
  # Two trees: a split of column 1 at 0.5 with a split of column 0 to its right; and a leaf.
  trees = Trees(2, [1, -1, -1, 0, -1, -1], [0.5, 100.0, 1.0, 3.0, 2.0, 4.0], [2, 0, 0, 4, 0, 0])
  rows = np.array([[9.0, 0.5], [3.0, 0.6], [3.1, 0.6]])
  np.testing.assert_allclose(trees(rows), [101.0, 102.0, 104.0])
  np.testing.assert_allclose(trees.times(0.5)(rows), [50.5, 51.0, 52.0])
  assert trees(np.zeros((0, 2))).shape == (0,)
  assert Trees(**json.loads(json.dumps(trees.to_json()))) == trees


def test_a_pair_model_adds_its_trees_to_the_linear_part():
  trees = Trees(1, [0, -1, -1], [10.0, 2.0, -2.0], [1, 0, 0])
  model = PairModel({"gap": 0.1}, 0.5, trees, ("gap",))
  odds = model.log_odds({"gap": np.array([0.0, 20.0])})
  np.testing.assert_allclose(odds, [0.5 + 2, 0.5 + 2 - 2])
  again = PairModel.from_json(json.loads(json.dumps(model.to_json())))
  np.testing.assert_allclose(again.log_odds({"gap": np.array([0.0, 20.0])}), odds)
