"""Fits the parts of gene models that need no checkpoint, on the training split."""

import functools
import logging
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float64
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.pipeline import Pipeline

from alphaecoli.evaluation.rival_fits import (
  AbsentError,
  Found,
  SplitData,
  expression_metrics,
  fit_pairs,
  fit_ridges,
  pair_metrics,
)
from alphaecoli.evaluation.split_arrays import Layout
from alphaecoli.genomics.coding_model import FEATURES, STARTS, CodingModel, Counts, count
from alphaecoli.genomics.gene_features import LINEAR_FEATURES
from alphaecoli.genomics.gene_models import ExpressionModel, PairModel, TrackModel, Trees
from alphaecoli.tracks.gene_targets import is_protein_coding
from alphaecoli.tracks.splits import TRAIN
from alphaecoli.tracks.store import TrackStore

LOGGER = logging.getLogger(__name__)
LEAST_GENES = 50  # to count codons by, or to weigh a checkpoint's predictions by
# Before they are fitted: what the quick start's fold 0 gave.
_START_WEIGHTS = {"ATG": 0.0, "GTG": -1.8, "TTG": -2.9, "motif": 1.0, "codon_pairs": 0.3,
                  "codons": 0.07}  # fmt: skip
_NO_WEIGHTS = dict.fromkeys((*FEATURES, "bias"), 0.0)
# Few leaves, and each tree sees half the genes and some features. Not tuned: settings near these
# differ by 0.01 in R², on validation and test splits alike.
_BOOSTING = {"max_depth": None, "min_samples_leaf": 10, "subsample": 0.5, "max_features": 0.15,
             "learning_rate": 0.05, "random_state": 0}  # fmt: skip
_EXPRESSION_TREES = {**_BOOSTING, "n_estimators": 300, "max_leaf_nodes": 12}
_PAIR_TREES = {**_BOOSTING, "n_estimators": 150, "max_leaf_nodes": 8, "max_features": 0.3}
T = TypeVar("T")


class Known(NamedTuple):
  """Models that need no checkpoint; None where there were no data to fit them on.

  Attributes:
    coding: codon pairs and motif of training genes, calls not weighed yet.
    pairs: linear model and trees.
    expression: linear models and trees.
  """

  data: SplitData
  coding: CodingModel | None
  pairs: tuple[PairModel, PairModel] | None
  expression: tuple[ExpressionModel, ExpressionModel] | None


def fit_known(data: SplitData) -> Known:
  """Counts and fits on the training split of a store."""
  pairs = _unless_absent("pairs", lambda: _fit_pairs(data))
  expression = _unless_absent("expression", lambda: _fit_expression(data))
  return Known(data, _count_training_genes(data.store), pairs, expression)


def gene_trees(data: SplitData, split: str) -> Found:
  """Predicts the expression of genes by the trees alone, as a rival of the model."""
  _, trees = _fit_expression(data)
  none = np.zeros((len(data.store.all_genes), len(trees.tracks)))
  return Found([expression_metrics(data, split, data.genome.z(trees, none))], {})


def pair_trees(data: SplitData, split: str) -> Found:
  """Tells neighbours that share an operon from others by the trees alone, as a rival."""
  _, trees = _fit_pairs(data)
  score = trees.log_odds(data.pair_features(split))
  return Found([pair_metrics(data, split, score)], {})


def linear(model: Pipeline) -> tuple[Float64[np.ndarray, " F"], float]:
  """Returns weights and bias of a regression on scaled features as those of the features."""
  scaler, last = model[0], model[-1]
  weights = np.ravel(last.coef_) / scaler.scale_
  return weights, float(np.ravel(last.intercept_)[0] - weights @ scaler.mean_)


def _unless_absent(what: str, fit: Callable[[], T]) -> T | None:
  """Returns what a fit gives, None where it lacks data; says so."""
  try:
    return fit()
  except AbsentError as absent:
    LOGGER.info("no model of %s from annotated genes: %s", what, absent)
    return None


def _count_training_genes(store: TrackStore) -> CodingModel | None:
  """Counts the protein-coding genes of all contigs that lie fully in the training split."""
  each = []
  for own in store.replicons:
    layout, genes = Layout.of_contig(own, TRAIN), own.genes
    places = zip(genes.start.tolist(), genes.end.tolist(), genes.strand.tolist(), strict=True)
    found = [
      place
      for place, coding in zip(places, is_protein_coding(genes), strict=True)
      if coding and layout.locate(*place[:2]) is not None
    ]
    each.append(count(np.asarray(own.sequence), found))
  counts: Counts = functools.reduce(operator.add, each)
  if counts.genes < LEAST_GENES:
    LOGGER.info("no model of gene calls: %d protein-coding training genes", counts.genes)
    return None
  return CodingModel.of(counts, dict(_START_WEIGHTS, **{STARTS[0]: 0.0}), _NO_WEIGHTS)


def _fit_pairs(data: SplitData) -> tuple[PairModel, PairModel]:
  """Fits a linear model and trees of training pairs."""
  model, _ = fit_pairs(data)
  weights, bias = linear(model)
  columns = data.pair_features(TRAIN)
  x, same = np.column_stack(list(columns.values())), data.pairs[TRAIN]["same_operon"]
  boosted = GradientBoostingClassifier(**_PAIR_TREES).fit(x, same)
  trees = _exported(boosted)
  start = float(boosted.decision_function(x[:1])[0] - trees(x[:1])[0])
  LOGGER.info("pairs of neighbouring genes: fitted on %d training pairs", len(same))
  names = tuple(columns)
  return (
    PairModel(dict(zip(names, weights.tolist(), strict=True)), bias),
    PairModel({}, start, trees, names),
  )


def _fit_expression(data: SplitData) -> tuple[ExpressionModel, ExpressionModel]:
  """Fits ridge regressions and trees of training genes, track by track."""
  features = data.genome.model_features
  ridges = fit_ridges(data, lambda gap: features(gap)[:, :LINEAR_FEATURES])
  train = data.genes[TRAIN]
  tracks: tuple[dict[str, TrackModel], dict[str, TrackModel]] = {}, {}
  for i, (name, ridge) in enumerate(zip(data.store.table.names, ridges, strict=True)):
    gap = ridge.mate_gap_bp
    weights, bias = linear(ridge.model)
    tracks[0][name] = TrackModel(gap, weights.tolist(), 0.0, bias)
    y = train["target_z"][:, i]
    known = ~np.isnan(y)
    x = features(gap)[train["row"][known]]
    boosted = GradientBoostingRegressor(**_EXPRESSION_TREES).fit(x, y[known])
    trees = _exported(boosted)
    start = float(boosted.predict(x[:1])[0] - trees(x[:1])[0])
    tracks[1][name] = TrackModel(gap, [0.0] * LINEAR_FEATURES, 0.0, start, trees)
  return ExpressionModel(tracks[0]), ExpressionModel(tracks[1])


def _exported(model: Any) -> Trees:
  """Returns the trees of a fitted gradient boosting, without the value that they start from."""
  trees = [estimator.tree_ for estimator in model.estimators_[:, 0]]
  nodes = [(tree, 0) for tree in trees]
  feature, number, left = list[int](), list[float](), list[int]()
  for tree, node in nodes:  # grows while it is read
    child = int(tree.children_left[node])
    if child < 0:
      feature.append(-1)
      number.append(model.learning_rate * float(tree.value[node, 0, 0]))
      left.append(0)
    else:
      feature.append(int(tree.feature[node]))
      number.append(float(tree.threshold[node]))
      left.append(len(nodes))
      nodes += [(tree, child), (tree, int(tree.children_right[node]))]
  return Trees(len(trees), feature, number, left)
