"""What the auxiliary heads say within a split: small cases by hand, and perfect predictions."""

import dataclasses

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from alphaecoli.evaluation import structure
from alphaecoli.evaluation.evaluator import evaluate
from alphaecoli.evaluation.rival_fits import SplitData, fit_pairs
from alphaecoli.evaluation.split_arrays import Assembly, Layout
from alphaecoli.evaluation.structure import (
  PairFit,
  called,
  junction_metrics,
  junction_scores,
  operon_scores,
  structure_metrics,
  with_annotation,
)
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.operon_pairs import EXPRESSION, JUNCTION, PairModel
from alphaecoli.genomics.sequence import encode, reverse_complement
from alphaecoli.inference.operon_calls import by_annotation, gene_pairs
from alphaecoli.inference.prediction import Prediction
from alphaecoli.tracks.splits import Region
from tests.evaluation.test_evaluator import LENGTH_BP, WINDOW_BP, Noisy, make_store, perfect
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
  found = [[(g.start, g.end, g.strand) for g in part] for part in called(assembly, store)]
  assert found == [[(50, 140, 1), (160, 250, 1)], [(440, 530, -1), (550, 640, -1)]]


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
  scores = operon_scores(assembly, store)
  expected = np.full(800, -50.0)
  expected[50:250], expected[440:640] = 2, -3
  np.testing.assert_allclose(scores, expected)
  assembly.targets["operon_membership"][:, 0] = np.arange(800) < 300  # 200 of 300 score above all
  above = (200 * 500 + 100 * 300 / 2) / (300 * 500)
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


OPTIONS = {"window_bp": WINDOW_BP, "batch_windows": 8}
NAME = "operon_pairs/annotated_auroc"


@pytest.fixture(scope="module")
def noisy():
  """A store, a model of it that is not perfect, and its validation report."""
  store = make_store()
  predict = Noisy(store)
  return store, predict, evaluate(predict, store, "validation", **OPTIONS)


@pytest.fixture
def weighs(monkeypatch):
  """The made-up store has fewer validation pairs than are asked for."""
  monkeypatch.setattr(structure, "LEAST_PAIRS", 1)


def test_the_pair_model_is_a_fit_on_training_pairs_weighed_on_validation_pairs(noisy, weighs):
  store, _, report = noisy
  found, model = PairFit(WINDOW_BP).fit(report, store)
  data = SplitData(store, WINDOW_BP)
  columns = np.column_stack(list(data.pair_features("validation").values()))
  genes, pairs = report.predictions.genes, report.predictions.pairs
  z = genes["predicted_z"]
  difference = np.abs(z[pairs["left"]] - z[pairs["right"]]).mean(axis=1)
  odds = fit_pairs(data)[0].decision_function(columns)
  x = np.column_stack([odds, pairs["junction"], difference])
  second = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, pairs["same_operon"])
  expected = second.predict_proba(x)[:, 1]
  np.testing.assert_allclose(found.predictions.pairs["probability_annotated"], expected, rtol=1e-9)
  metric = next(m for m in found.metrics if m.name == NAME)
  assert metric.model == pytest.approx(sk.roc_auc_score(pairs["same_operon"], expected))
  assert metric.baseline == pytest.approx(
    sk.roc_auc_score(pairs["same_operon"], -pairs["distance_bp"])
  )
  assert (metric.n, metric.over) == (len(pairs["left"]), "pairs")
  names = [m.name for m in found.metrics]
  assert names.index(NAME) + 1 == names.index("loss/gene_expression")
  assert NAME in found.table() and NAME in found.to_json()["metrics"]
  again = with_annotation(report, store, model)
  np.testing.assert_array_equal(
    again.predictions.pairs["probability_annotated"],
    found.predictions.pairs["probability_annotated"],
  )


def test_few_validation_pairs_leave_the_fit_on_training_pairs_alone(noisy):
  store, _, report = noisy
  same = report.predictions.pairs["same_operon"]
  assert 0 < min(same.sum(), (~same).sum()) < structure.LEAST_PAIRS
  found, model = PairFit(WINDOW_BP).fit(report, store)
  assert JUNCTION not in model.weights and EXPRESSION not in model.weights
  data = SplitData(store, WINDOW_BP)
  columns = np.column_stack(list(data.pair_features("validation").values()))
  expected = fit_pairs(data)[0].predict_proba(columns)[:, 1]
  np.testing.assert_allclose(found.predictions.pairs["probability_annotated"], expected, rtol=1e-9)


def test_labels_of_the_test_split_change_no_pair_model(noisy, weighs):
  store, _, report = noisy
  _, model = PairFit(WINDOW_BP).fit(report, store)
  other = make_store()
  (start, end), *_ = store.regions("test")
  inside = (store.genes.start >= start) & (store.genes.start < end)
  operon_id = np.where(inside, "", store.genes.operon_id)
  vars(other)["genes"] = dataclasses.replace(store.genes, operon_id=operon_id)
  assert PairFit(WINDOW_BP).fit(report, other)[1] == model
  changed = with_annotation(evaluate(perfect, other, "test", **OPTIONS), other, model)
  assert not changed.predictions.pairs["same_operon"].all()


def test_without_junctions_or_operons_there_is_no_pair_model(noisy):
  store, predict, report = noisy
  fit = PairFit(WINDOW_BP)
  skipped = dataclasses.replace(report, skipped={"operon_junction": "the model has no such head"})
  assert fit.fit(skipped, store) == (skipped, None)
  assert with_annotation(skipped, store, PairModel({}, 0.0)) is skipped
  assert with_annotation(report, store, None) is report
  bare = make_store(has_operons=False)
  assert fit.fit(evaluate(predict, bare, "validation", **OPTIONS), bare)[1] is None


def test_an_expression_head_that_is_not_trained_takes_no_part(noisy, weighs):
  store, _, report = noisy
  without = dataclasses.replace(report, skipped={"gene_expression": "its loss weight is 0"})
  _, model = PairFit(WINDOW_BP).fit(without, store)
  assert EXPRESSION not in model.weights and JUNCTION in model.weights


def test_prediction_gives_pairs_the_probability_of_evaluation(noisy, weighs):
  store, predict, report = noisy
  _, model = PairFit(WINDOW_BP).fit(report, store)
  whole = make_store()
  whole._regions["test"] = (Region(0, LENGTH_BP),)
  measured = with_annotation(evaluate(predict, whole, "test", **OPTIONS), whole, model).predictions
  genes = [
    Gene(f"{i}", "", "", int(a), int(b), int(s), str(kind))
    for i, (a, b, s, kind) in enumerate(
      zip(store.genes.start, store.genes.end, store.genes.strand, store.genes.type, strict=True)
    )
  ]
  bases = measured.bases
  prediction = Prediction(
    gene_expression=bases["gene_expression"],
    gene_density=bases["gene_density"],
    operon_membership=special.expit(bases["operon_membership"]),
    operon_junction=special.expit(bases["operon_junction"]),
    table=store.table,
    units="z",
    circular=True,
  )
  pairs = gene_pairs(genes, prediction.operon_membership[:, 0], True)
  found = by_annotation(genes, store.sequence, pairs, prediction, [model])
  by_genes = {(pair.left, pair.right): pair.probability_annotated for pair in found}
  rows = measured.genes["row"]
  places = zip(rows[measured.pairs["left"]], rows[measured.pairs["right"]], strict=True)
  expected = measured.pairs["probability_annotated"]
  np.testing.assert_allclose([by_genes[place] for place in places], expected, rtol=1e-4)
  assert len(expected) > 40 and expected.std() > 0.1
