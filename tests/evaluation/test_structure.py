"""What the auxiliary heads say within a split: small cases by hand, and perfect predictions."""

import numpy as np
import pytest

from alphaecoli.evaluation.evaluator import evaluate
from alphaecoli.evaluation.split_arrays import Assembly, Layout
from alphaecoli.evaluation.structure import (
  call_regions,
  junction_metrics,
  junction_odds,
  junction_scores,
  linked,
  operon_scores,
  structure_metrics,
)
from alphaecoli.genomics.sequence import encode, reverse_complement
from alphaecoli.tracks.splits import Region
from tests.evaluation.test_evaluator import LENGTH_BP, WINDOW_BP, make_store, perfect
from tests.evaluation.test_rivals import small_store

# Two regions; the first one passes the origin. Genes: start, end, strand, type.
REGIONS = [[900, 1300], [300, 700]]
GENES = (
  (950, 1040, 1, "mRNA"),  # passes the origin
  (1060, 1150, 1, "mRNA"),
  (1200, 1260, -1, "tRNA"),
  (340, 430, -1, "mRNA"),
  (450, 540, -1, "mRNA"),
)


def small_split(confidence: float = 5.0) -> tuple:
  """A store of GENES with open reading frames, and its split under perfect predictions."""
  codes = np.zeros(1000, np.uint8)
  frame = encode("ATG" + "GCC" * 28 + "TAA")
  for start, end, strand, kind in GENES:
    if kind == "mRNA":
      codes[np.arange(start, end) % 1000] = frame if strand > 0 else reverse_complement(frame)
  splits = {"train": [], "validation": [], "test": REGIONS}
  genes = [(a % 1000, a % 1000 + b - a, strand, kind) for a, b, strand, kind in GENES]
  store = small_store(codes, sorted(genes), splits=splits)
  assembly = Assembly(Layout(tuple(map(tuple, REGIONS)), 1000), 1)
  for start, end, strand, kind in GENES:
    first = start - 900 if start >= 900 else start + 100
    at = np.arange(first, first + end - start)
    channel = np.arange(end - start) % 3 if kind == "mRNA" else np.full(end - start, 3)
    assembly.targets["gene_structure"][at] = 0
    assembly.targets["gene_structure"][at, channel if strand > 0 else channel[::-1] + 4] = 1
  target = assembly.targets["gene_structure"]
  target[np.isnan(target)] = 0
  assembly.predictions["gene_structure"][:] = confidence * (2 * target - 1)
  assembly.predictions["operon_junction"][:] = 0
  assembly.predictions["operon_junction"][110:190, 0] = 2  # junction of the first two genes
  assembly.predictions["operon_junction"][500:580, 1] = -3  # of the last two
  return store, assembly


def figures(metrics) -> dict[str, tuple[float, int]]:
  return {m.name: (m.model, m.n) for m in metrics}


def test_genes_are_called_in_the_positions_of_the_split():
  store, assembly = small_split()
  calls = call_regions(assembly.layout, assembly.predictions["gene_structure"], store)
  found = [[(g.start, g.end, g.strand, g.rna) for g in part] for part in calls]
  rna = (300, 360, -1, True)
  coding = [[(50, 140, 1), (160, 250, 1)], [(440, 530, -1), (550, 640, -1)]]
  assert found == [[*((*g, False) for g in coding[0]), rna], [(*g, False) for g in coding[1]]]


def test_structure_of_perfect_predictions():
  store, assembly = small_split()
  assert figures(structure_metrics(assembly, store, "test")) == {
    "gene_structure/codon_auroc": (1, 6 * 800),
    "gene_structure/rna_auroc": (1, 2 * 800),  # one strand has none: undefined there
    "gene_calls/stop_sensitivity": (1, 4),
    "gene_calls/stop_precision": (1, 4),
    "gene_calls/exact_sensitivity": (1, 4),
    "gene_calls/exact_precision": (1, 4),
  }


def test_a_gene_that_is_missed_costs_sensitivity_and_a_shifted_start_exactness():
  store, assembly = small_split()
  assembly.predictions["gene_structure"][50:140] = -5  # the first gene
  store.sequence[340 + 57 : 340 + 60] = encode("CAT")  # a start codon within the third, reverse
  assembly.predictions["gene_structure"][500:530] = -5  # the bases before it
  found = figures(structure_metrics(assembly, store, "test"))
  assert found["gene_calls/stop_sensitivity"] == (0.75, 4)
  assert found["gene_calls/stop_precision"] == (1, 3)
  assert found["gene_calls/exact_sensitivity"] == (0.5, 4)
  assert found["gene_calls/exact_precision"] == (pytest.approx(2 / 3), 3)


def test_codon_auroc_is_the_mean_over_channels():
  store, assembly = small_split()
  assembly.predictions["gene_structure"][:, 4] = 0  # all tie
  found = figures(structure_metrics(assembly, store, "test"))
  assert found["gene_structure/codon_auroc"][0] == pytest.approx((5 + 0.5) / 6)


def test_junctions_and_the_bases_beside_them_score_by_hand():
  store, assembly = small_split()
  # (30 + 20 + 30) bases from within one gene to within the next; all of them predicted alike.
  genes = {
    "first": np.array([50, 160, 300, 440, 550]),
    "last": np.array([140, 250, 360, 530, 640]),
    "strand": np.array([1, 1, -1, -1, -1]),
  }
  pairs = {
    "left": np.array([0, 3]),
    "right": np.array([1, 4]),
    "same_operon": np.array([True, False]),
    "experimental": np.array([False, False]),
    "distance_bp": np.array([20, 20]),
  }
  pairs["junction"] = junction_scores(assembly, genes, pairs)
  np.testing.assert_allclose(pairs["junction"], [2, -3])
  calls = call_regions(assembly.layout, assembly.predictions["gene_structure"], store)
  logits = assembly.predictions["operon_junction"]
  odds = [junction_odds(logits, *pair) for part in calls for pair in linked(part)]
  scores = operon_scores(calls, odds, assembly.layout)
  expected = np.full(800, -50.0)  # of an RNA gene that no other of its strand follows
  expected[50:250], expected[440:640] = 2, -3
  # Outside of genes, and of the two's gap: 3 less than the better gene beside, of the same region.
  expected[:50] = expected[250:300] = 2 - 3
  expected[360:400], expected[400:440], expected[640:] = -53, -6, -6
  np.testing.assert_allclose(scores, expected)
  # 300 of the 320 bases in operons score above all; the others, of the RNA gene, as 40, above 40.
  assembly.targets["operon_membership"][:, 0] = np.arange(800) < 320
  above = (300 * 480 + 20 * (40 / 2 + 40)) / (320 * 480)
  assert figures(junction_metrics(assembly, store, pairs, calls=True)) == {
    "operon_junction/pairs_auroc": (1, 2),
    "operon_junction/bases_auroc": (pytest.approx(above), 800),
  }
  (over_pairs,) = junction_metrics(assembly, store, pairs, calls=False)
  assert over_pairs.baseline == 0.5  # both pairs lie 20 bp apart


def test_perfect_predictions_of_a_whole_chromosome_find_every_operon():
  store = make_store()
  store._regions["test"] = (Region(0, LENGTH_BP),)
  options = {"window_bp": WINDOW_BP, "batch_windows": 8}
  found = evaluate(perfect, store, "test", **options).scalars()
  for name in ("operon_junction/bases_auroc", "operon_junction/pairs_auroc"):
    assert found[name] == 1, name


def test_an_rna_gene_may_share_an_operon_with_the_gene_before_it():
  store, assembly = small_split()
  structure, junction = (assembly.predictions[k] for k in ("gene_structure", "operon_junction"))
  structure[300:360, [3, 7]] = structure[300:360, [7, 3]]  # the tRNA, on the forward strand
  junction[205:330, 0] = 4
  calls = call_regions(assembly.layout, structure, store)
  odds = [junction_odds(junction, *pair) for part in calls for pair in linked(part)]
  assert odds == [2, 4, -3]
  np.testing.assert_allclose(
    operon_scores(calls, odds, assembly.layout)[[49, 100, 200, 270, 330, 380]],
    [2 - 3, 2, 4, 4, 4, 4 - 3],
  )
