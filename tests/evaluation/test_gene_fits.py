"""Models of genes beside the network: their fits, and what evaluation makes of them."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sk
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from alphaecoli.evaluation import gene_fits, training_fits
from alphaecoli.evaluation.evaluator import evaluate, summarise
from alphaecoli.evaluation.gene_fits import GeneFit
from alphaecoli.evaluation.gene_level import with_gene_models
from alphaecoli.evaluation.gene_values import contig_genes
from alphaecoli.evaluation.rival_fits import SplitData, fit_pairs
from alphaecoli.evaluation.split_arrays import Assembly, Layout
from alphaecoli.genomics import gene_calls
from alphaecoli.genomics.coding_model import CodingModel
from alphaecoli.genomics.gene_calls import GeneCaller
from alphaecoli.genomics.gene_features import codon_counts
from alphaecoli.genomics.gene_models import EXPRESSION, JUNCTION, GeneModels, PairModel
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.sequence import encode, reverse_complement
from alphaecoli.inference.operon_calls import PredictedGenes
from alphaecoli.inference.prediction import Prediction
from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.gene_targets import DensityIndex
from alphaecoli.tracks.splits import Region
from alphaecoli.tracks.store import TrackStore
from tests.evaluation.test_evaluator import (
  LENGTH_BP,
  SPLITS,
  WINDOW_BP,
  Noisy,
  make_store,
  over_contigs,
  perfect,
  with_splits,
)
from tests.evaluation.test_rivals import small_store


def with_pairs(report, store, model):
  return with_gene_models(report, store, GeneModels(pairs=model))


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
  monkeypatch.setattr(gene_fits, "LEAST_PAIRS", 1)


def boosted_odds(data, columns):
  """What scikit-learn's own trees say of pairs, fitted on training pairs."""
  x = np.column_stack(list(data.pair_features("train").values()))
  model = GradientBoostingClassifier(**training_fits._PAIR_TREES)
  return model.fit(x, data.pairs["train"]["same_operon"]).decision_function(columns)


def test_the_pair_model_is_a_fit_on_training_pairs_weighed_on_validation_pairs(noisy, weighs):
  store, _, report = noisy
  model = GeneFit(WINDOW_BP).fit(report, store).pairs
  found = with_pairs(report, store, model)
  data = SplitData(store, WINDOW_BP)
  columns = np.column_stack(list(data.pair_features("validation").values()))
  genes, pairs = report.predictions.genes, report.predictions.pairs
  z = genes["predicted_z"]
  difference = np.abs(z[pairs["left"]] - z[pairs["right"]]).mean(axis=1)
  odds = fit_pairs(data)[0].decision_function(columns), boosted_odds(data, columns)
  x = np.column_stack([*odds, pairs["junction"], difference])
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


def test_few_validation_pairs_leave_the_fit_on_training_pairs_alone(noisy):
  store, _, report = noisy
  same = report.predictions.pairs["same_operon"]
  assert 0 < min(same.sum(), (~same).sum()) < gene_fits.LEAST_PAIRS
  model = GeneFit(WINDOW_BP).fit(report, store).pairs
  found = with_pairs(report, store, model)
  assert JUNCTION not in model.weights and EXPRESSION not in model.weights
  data = SplitData(store, WINDOW_BP)
  columns = np.column_stack(list(data.pair_features("validation").values()))
  odds = fit_pairs(data)[0].decision_function(columns), boosted_odds(data, columns)
  expected = special.expit(np.mean(odds, axis=0))
  np.testing.assert_allclose(found.predictions.pairs["probability_annotated"], expected, rtol=1e-9)


def test_labels_of_the_test_split_change_no_pair_model(noisy, weighs):
  store, _, report = noisy
  model = GeneFit(WINDOW_BP).fit(report, store).pairs
  other = make_store()
  (start, end), *_ = store.regions("test")
  inside = (store.genes.start >= start) & (store.genes.start < end)
  operon_id = np.where(inside, "", store.genes.operon_id)
  vars(other)["genes"] = dataclasses.replace(store.genes, operon_id=operon_id)
  assert GeneFit(WINDOW_BP).fit(report, other).pairs == model
  changed = with_pairs(evaluate(perfect, other, "test", **OPTIONS), other, model)
  assert not changed.predictions.pairs["same_operon"].all()


def test_without_junctions_or_operons_there_is_no_pair_model(noisy):
  store, predict, report = noisy
  fit = GeneFit(WINDOW_BP)
  skipped = dataclasses.replace(report, skipped={"operon_junction": "the model has no such head"})
  assert fit.fit(skipped, store).pairs is None
  assert with_pairs(skipped, store, PairModel({}, 0.0)) == skipped
  assert with_gene_models(report, store, GeneModels()) == report
  bare = make_store(has_operons=False)
  assert fit.fit(evaluate(predict, bare, "validation", **OPTIONS), bare).pairs is None


def test_an_expression_head_that_is_not_trained_takes_no_part(noisy, weighs):
  store, _, report = noisy
  without = dataclasses.replace(report, skipped={"gene_expression": "its loss weight is 0"})
  model = GeneFit(WINDOW_BP).fit(without, store).pairs
  assert EXPRESSION not in model.weights and JUNCTION in model.weights


def test_prediction_gives_pairs_the_probability_of_evaluation(noisy, weighs):
  store, predict, report = noisy
  model = GeneFit(WINDOW_BP).fit(report, store).pairs
  whole = make_store()
  whole._regions["test"] = (Region(0, LENGTH_BP),)
  measured = with_pairs(evaluate(predict, whole, "test", **OPTIONS), whole, model).predictions
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
  found = PredictedGenes(genes, store.sequence, True).pairs(prediction, [GeneModels(pairs=model)])[
    0
  ]
  by_genes = {(pair.left, pair.right): pair.probability_annotated for pair in found}
  rows = measured.genes["row"]
  places = zip(rows[measured.pairs["left"]], rows[measured.pairs["right"]], strict=True)
  expected = measured.pairs["probability_annotated"]
  np.testing.assert_allclose([by_genes[place] for place in places], expected, rtol=1e-4)
  assert len(expected) > 40 and expected.std() > 0.1


STOPS, STARTS = ("TAA", "TAG", "TGA"), ("ATG", "GTG", "TTG")


def made_up_genome(n_genes: int = 330, seed: int = 4) -> tuple[np.ndarray, list]:
  """Genes of 40 to 200 codons on both strands, with favourite codons and AGGAGG before them.

  The eighth codon of each could be a start too: what lies before it tells that it is none.
  """
  rng = np.random.default_rng(seed)
  codons = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
  codons = [codon for codon in codons if codon not in STOPS]
  share = rng.gamma(0.5, 1.0, len(codons))
  parts, genes, at = [], [], 0

  def random(n):
    return "".join(rng.choice(list("ACGT"), n))

  for _ in range(n_genes):
    body = list(rng.choice(codons, int(rng.integers(40, 200)), p=share / share.sum()))
    body[7] = "ATG"
    start = str(rng.choice(STARTS, p=(0.8, 0.15, 0.05)))
    text = random(40) + "AGGAGG" + random(7) + start + "".join(body) + str(rng.choice(STOPS))
    text += random(20)
    first, last = 53, len(text) - 20
    strand = int(rng.choice([-1, 1]))
    if strand < 0:
      first, last = len(text) - last, len(text) - first
    codes = encode(text)
    parts.append(codes if strand > 0 else reverse_complement(codes))
    genes.append((at + first, at + last, strand, "mRNA"))
    at += len(text)
  return np.concatenate(parts), genes


@pytest.fixture(scope="module")
def made_up():
  """A store of a made-up genome, and reports of a network that tells nothing of genes."""
  codes, genes = made_up_genome()
  n = len(codes)
  cuts = [0, int(0.6 * n), int(0.8 * n), n]
  names = ("train", "validation", "test")
  splits = {name: [[a, b]] for name, a, b in zip(names, cuts, cuts[1:], strict=False)}
  store = small_store(codes, genes, circular=False, splits=splits)
  reports = {}
  for split in names[1:]:
    reports[split] = summarise(blind(store, split), store, split)
  return store, reports


def blind(store: TrackStore, split: str) -> Assembly:
  """What a network says of a split, and the density, where it tells nothing of genes."""
  parts = []
  for own in store.replicons:
    parts.append(assembly := Assembly(Layout.of_contig(own, split), 1))
    for head, values in assembly.predictions.items():
      values[:] = 0
      assembly.heads.add(head)
    assembly.predictions["gene_structure"][:] = -2
    assembly.targets["gene_structure"][:] = 0
    density = DensityIndex.of_genes(own.genes.fragments, own.length_bp, False)
    for a, b in assembly.layout.regions:
      bins = np.arange(0, b - a - BIN_BP, BIN_BP)
      assembly.targets["gene_density"][bins, 0] = density.counts(a, len(bins))
  return Assembly.joined(parts)


def test_codon_use_and_starts_call_genes_that_the_network_does_not_see(made_up):
  store, reports = made_up
  assert reports["test"].scalars()["gene_calls/stop_sensitivity"] == 0
  model = GeneFit(4096).fit(reports["validation"], store).calls
  found = with_gene_models(reports["test"], store, GeneModels(calls=model)).scalars()
  assert found["gene_calls/stop_sensitivity"] > 0.95
  assert found["gene_calls/stop_precision"] > 0.95
  assert found["gene_calls/exact_sensitivity"] > 0.9
  assert model.start_weights["GTG"] < 0 and model.start_weights["TTG"] < 0
  assert model.start_weights["motif"] > 0.5


def test_labels_of_the_test_split_change_no_model_of_calls(made_up):
  store, reports = made_up
  model = GeneFit(4096).fit(reports["validation"], store).calls
  splits = store.manifest["splits"]
  other = small_store(store.sequence, made_up_genome()[1], circular=False, splits=splits)
  inside = store.genes.start >= store.regions("test")[0].start
  kind = np.where(inside, "tRNA", store.genes.type)
  vars(other)["genes"] = dataclasses.replace(store.genes, type=kind)
  again = GeneFit(4096).fit(reports["validation"], other).calls
  assert again.to_json() == model.to_json()


@pytest.fixture(scope="module")
def other_genome(made_up):
  """A genome of other codon use: model of calls, bases, what a network sees, genes."""
  store, reports = made_up
  model = GeneFit(4096).fit(reports["validation"], store).calls
  codes, genes = made_up_genome(400, seed=11)
  known = np.full((len(codes), 8), 0.1)
  for start, end, strand, _ in genes:  # what a network sees of a gene's frame
    position = np.arange(end - start) % 3
    known[np.arange(start, end), position if strand > 0 else position[::-1] + 4] = 0.5
  weights = {**model.call_weights, "structure_per_codon": 2.0}
  model = dataclasses.replace(model, call_weights=weights)
  return model, codes, known, [gene[:3] for gene in genes]


def test_a_genome_of_other_codon_use_is_counted_anew(other_genome, monkeypatch):
  model, codes, known, genes = other_genome
  places, found = set(genes), []
  for least in (10_000, 100):
    monkeypatch.setattr(gene_calls, "LEAST_GENES", least)
    found.append(GeneCaller(model).call(codes, known, circular=False))
  right = [sum((g.start, g.end, g.strand) in places for g in calls) for calls in found]
  assert right[1] > right[0] and right[1] > 0.85 * len(genes)


def test_a_genome_of_many_contigs_is_counted_anew_when_it_has_grown(other_genome, monkeypatch):
  model, codes, known, genes = other_genome
  monkeypatch.setattr(gene_calls, "LEAST_GENES", 100)
  cuts = [0, *(end + 20 for _, end, _ in genes[:-1]), len(codes)]  # a gene a contig
  recounted, counted = CodingModel.recounted, []
  monkeypatch.setattr(
    CodingModel, "recounted", lambda *each: counted.append(each[1].genes) or recounted(*each)
  )
  found, times = [], []
  for growth in (1.0, 1.1):  # as often as can be, and seldom
    monkeypatch.setattr(gene_calls, "LEAST_GROWTH", growth)
    caller, calls = GeneCaller(model), set()
    for a, b in itertools.pairwise(cuts):
      own = caller.call(codes[a:b], known[a:b], circular=False)
      calls |= {(gene.start + a, gene.end + a, gene.strand) for gene in own}
    found.append(calls)
    times.append(len(counted))
    counted.clear()
  assert times[0] > 600 and times[1] < 60  # of 400 genes; ln(4) / ln(1.1) = 15 times, 3 rounds
  assert len(found[0] & found[1]) > 0.97 * max(map(len, found))
  right = [len(calls & set(genes)) for calls in found]
  assert right[1] > 0.98 * right[0] > 0.6 * len(genes)  # a hundred by another genome's codon use


def test_expression_weighs_codon_use_and_the_network_on_validation_genes(noisy):
  store, _, report = noisy
  model = GeneFit(WINDOW_BP).fit(report, store).expression
  data = SplitData(store, WINDOW_BP)
  genes = report.predictions.genes
  found = with_gene_models(report, store, GeneModels(expression=model))
  z = found.predictions.genes["annotated_z"]
  assert z.shape == genes["predicted_z"].shape
  for i, track in enumerate(model.tracks.values()):
    # Least squares: residuals are orthogonal to both columns that were weighed.
    if track.predicted == 0:  # too few genes to weigh
      continue
    y, p = genes["target_z"][:, i], genes["predicted_z"][:, i]
    mask = ~np.isnan(y)
    line = LinearRegression().fit(np.column_stack([z[mask, i], p[mask]]), y[mask])
    np.testing.assert_allclose(line.coef_, [1, 0], atol=1e-6)
  names = [metric.name for metric in found.metrics]
  assert "gene_expression/annotated_r2" in names
  assert len(codon_counts(contig_genes(store))) == len(data.genome.codons[0])


def test_trees_of_expression_are_scikit_learns(noisy):
  data = SplitData(noisy[0], WINDOW_BP)
  _, boosted = training_fits.fit_known(data).expression
  none = np.zeros((len(data.store.all_genes), len(boosted.tracks)))
  z = data.genome.z(boosted, none)
  for i, track in enumerate(boosted.tracks.values()):
    y = data.genes["train"]["target_z"][:, i]
    features, known = data.genome.model_features(track.mate_gap_bp), ~np.isnan(y)
    model = GradientBoostingRegressor(**training_fits._EXPRESSION_TREES)
    model.fit(features[data.genes["train"]["row"][known]], y[known])
    np.testing.assert_allclose(z[:, i], model.predict(features), rtol=1e-9)
    assert z[:, i].std() > 0.1


def test_gene_models_are_the_same_after_json(made_up, noisy):
  store, reports = made_up
  fitted = GeneFit(4096).fit(reports["validation"], store)
  other = GeneFit(WINDOW_BP).fit(noisy[2], noisy[0])
  for models in (fitted, other, GeneModels()):
    again = GeneModels.from_json(models.to_json())
    assert again.to_json() == models.to_json()
  assert fitted.calls is not None and other.expression is not None
  assert GeneModels.from_json({"calls": {"version": 0}}).calls is None


def test_checkpoints_from_before_there_were_trees_are_read(noisy, weighs):
  value = GeneFit(WINDOW_BP).fit(noisy[2], noisy[0]).to_json()
  pairs, tracks = value["pairs"], value["expression"]["tracks"]
  assert pairs.pop("trees") and pairs.pop("tree_features")
  assert all(track.pop("trees") for track in tracks.values())
  found = with_gene_models(noisy[2], noisy[0], GeneModels.from_json(value))
  assert np.isfinite(found.predictions.pairs["probability_annotated"]).all()
  assert np.isfinite(found.predictions.genes["annotated_z"]).any()


def test_density_of_called_genes_is_a_line_fitted_on_validation(made_up):
  store, reports = made_up
  models = GeneFit(4096).fit(reports["validation"], store)
  assert models.density is not None and len(models.density.weights) == 8
  found = with_gene_models(reports["test"], store, models)
  assert found.scalars()["gene_calls/density_r2"] > 0.5 > found.scalars()["gene_density/r2"]


def test_models_of_pairs_and_expression_over_contigs_are_those_of_all_genes(weighs, monkeypatch):
  monkeypatch.setattr(gene_fits, "LEAST_GENES", 1)
  splits = {**SPLITS, "validation": [[2_100, 6_600], [6_600, 11_000]]}
  store = with_splits(make_store(), splits)
  predict = Noisy(store)
  of_contigs = ({name: regions[i : i + 1] for name, regions in splits.items()} for i in range(2))
  two = with_splits(store, *of_contigs)
  found, figures = [], []
  for own in (store, two):
    models = GeneFit(WINDOW_BP).fit(evaluate(predict, own, "validation", **OPTIONS), own)
    models = dataclasses.replace(models, calls=None, density=None)
    found.append(models)
    test = with_gene_models(evaluate(predict, own, "test", **OPTIONS), own, models)
    figures.append(test.scalars())
    assert np.isfinite(test.predictions.genes["annotated_z"]).any()
  one, other = found
  assert JUNCTION in one.pairs.weights and any(t.predicted for t in one.expression.tracks.values())
  assert other.pairs.weights == pytest.approx(one.pairs.weights, rel=1e-6, abs=1e-9)
  for track, expected in one.expression.tracks.items():
    again = other.expression.tracks[track]
    np.testing.assert_allclose(again.weights, expected.weights, rtol=1e-6, atol=1e-9)
    assert again.predicted == pytest.approx(expected.predicted, rel=1e-6)
  assert figures[1] == pytest.approx(figures[0], rel=1e-6, nan_ok=True)


def test_figures_of_gene_models_over_contigs_are_those_of_all_their_values(noisy, weighs):
  store, predict, report = noisy
  models = GeneFit(WINDOW_BP).fit(report, store)
  two = over_contigs(store, *([region] for region in SPLITS["test"]))
  one, other = (
    with_gene_models(evaluate(predict, own, "test", **OPTIONS), own, models).scalars()
    for own in (store, two)
  )
  assert other == pytest.approx(one, rel=1e-9, nan_ok=True)
  assert {NAME, "gene_expression/annotated_r2", "gene_calls/exact_precision"} <= one.keys()


def test_a_genome_in_pieces_has_the_models_of_calls_and_density_of_the_whole():
  codes, genes = made_up_genome()
  # Between genes: training ends in the second piece, which has validation too.
  cuts = [0, *(genes[k][1] + 20 for k in (120, 200, 265)), len(codes)]
  train, more, validation, test = ([[a, b]] for a, b in itertools.pairwise(cuts))
  splits = {"train": train + more, "validation": validation, "test": test}
  whole = small_store(codes, genes, circular=False, splits=splits)
  ends = [cuts[0], cuts[1], cuts[3], cuts[4]]
  pieces = []
  for start, end in itertools.pairwise(ends):
    own = [(a - start, b - start, *rest) for a, b, *rest in genes if start <= a < end]
    moved = {
      name: [[a - start, b - start] for a, b in regions if start <= a < end]
      for name, regions in splits.items()
    }
    pieces.append(small_store(codes[start:end], own, circular=False, splits=moved))
  several = TrackStore("elsewhere", pieces[0].manifest, pieces[1:])
  vars(several).update(sequence=pieces[0].sequence, genes=pieces[0].genes)
  (one, expected), (other, figures) = (
    (models, with_gene_models(summarise(blind(own, "test"), own, "test"), own, models).scalars())
    for own in (whole, several)
    for models in [GeneFit(4096).fit(summarise(blind(own, "validation"), own, "validation"), own)]
  )
  # Pairs of triplets across the cuts, which no gene has, are all that is not counted.
  np.testing.assert_allclose(other.calls.codon_pairs, one.calls.codon_pairs, atol=0.03)
  np.testing.assert_allclose(other.calls.motif, one.calls.motif, rtol=1e-9)
  for key in ("start_weights", "call_weights"):
    assert getattr(other.calls, key) == pytest.approx(getattr(one.calls, key), rel=0.02, abs=0.02)
  assert other.density.weights == pytest.approx(one.density.weights, rel=0.02, abs=0.02)
  assert expected["gene_calls/stop_sensitivity"] > 0.95
  assert figures == pytest.approx(expected, rel=0.01, nan_ok=True)
