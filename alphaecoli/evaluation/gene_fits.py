"""Fits the models of genes that stand beside the network (genomics/gene_models.py), and measures.

What needs no checkpoint is counted and fitted on the training split. A checkpoint's predictions are
better on genes that it has learnt from than on others, so that a fit there would trust them too
much: what they weigh is fitted on the validation split, a few weights a model.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy import optimize, special
from sklearn.linear_model import LinearRegression, LogisticRegression

from alphaecoli.evaluation.gene_level import density_columns, pair_columns
from alphaecoli.evaluation.results import Predictions, Report
from alphaecoli.evaluation.rival_fits import SplitData, scaled
from alphaecoli.evaluation.split_arrays import split_sequence
from alphaecoli.evaluation.structure import annotated_genes, call_regions
from alphaecoli.evaluation.training_fits import LEAST_GENES, Known, fit_known, linear
from alphaecoli.genomics.coding_model import (
  FEATURES,
  START_FEATURES,
  STARTS,
  STOPS,
  CodingModel,
  pair_odds,
  reading_frames,
  word,
  words,
)
from alphaecoli.genomics.gene_calls import MIN_CODONS, strands
from alphaecoli.genomics.gene_models import (
  EXPRESSION,
  JUNCTION,
  DensityModel,
  ExpressionModel,
  GeneModels,
  PairModel,
  TrackModel,
)
from alphaecoli.tracks.store import TrackStore

LOGGER = logging.getLogger(__name__)
LEAST_PAIRS = 20  # of either kind on validation, to weigh a checkpoint's scores by


class GeneFit:
  """Fits the gene models of a run's checkpoints."""

  def __init__(self, window_bp: int):
    """Prepares fits; nothing is computed yet.

    Args:
      window_bp: length of the model's evaluation windows.
    """
    self._window_bp = window_bp
    self._known: dict[Path, Known] = {}  # the same for every step

  def fit(self, report: Report, store: TrackStore) -> GeneModels:
    """Fits the models of one checkpoint.

    Args:
      report: the checkpoint's validation report.
      store: its track store.

    Returns:
      None for a model that could not be fitted; where validation has too few genes or pairs to
      weigh what the checkpoint predicts, one of what is known without it.
    """
    if store.path not in self._known:
      self._known[store.path] = fit_known(SplitData(store, self._window_bp))
    known = self._known[store.path]
    calls = pairs = expression = density = None
    if known.coding is not None and "gene_structure" not in report.skipped:
      calls = _weigh_calls(known.coding, report.predictions, store)
      if calls is not None and "gene_density" not in report.skipped:
        density = _fit_density(report.predictions, store, calls)
    if known.pairs is not None and "operon_junction" not in report.skipped:
      pairs = _weigh_pairs(known.pairs, report, known.data)
    if known.expression is not None and "gene_expression" not in report.skipped:
      expression = _weigh_expression(known.expression, report.predictions.genes, known.data)
    return GeneModels(calls, pairs, expression, density)


def _weigh_calls(
  model: CodingModel, predictions: Predictions, store: TrackStore
) -> CodingModel | None:
  """Fits the weights of starts, then those of open reading frames, on annotated genes."""
  layout, logits = predictions.layout, predictions.bases["gene_structure"]
  codes = split_sequence(layout, store)
  truth, masked = annotated_genes(layout, store)
  regions = [(a, codes[a:b], logits[a:b]) for a, b in layout.places]
  choices = []
  for first, bases, odds in regions:
    for strand, own, _ in strands(bases, odds):
      numbers, motif = words(own), model.motif_odds(own)
      for (sign, stop), start in truth.items():
        if sign == strand and first <= start < first + len(own):
          place = (start - first, stop - first)
          if strand < 0:
            place = (len(own) - place[0] - 1, len(own) - place[1])
          if 0 <= place[0] < place[1] <= len(own):
            choices.append(start_choices(model, numbers, motif, *place))
  known = [choice for choice in choices if choice is not None]
  if len(known) < LEAST_GENES:
    return None
  weights = _choose_starts(known)
  model = dataclasses.replace(
    model, start_weights={STARTS[0]: 0.0, **dict(zip(START_FEATURES, weights, strict=True))}
  )
  features, labels = [], []
  for first, bases, odds in regions:
    for strand, own, codons in strands(bases, odds):
      frames = reading_frames(own, codons, model, MIN_CODONS)
      ends, starts = frames.end + first, frames.start + first
      if strand < 0:
        ends, starts = len(own) - frames.end + first, len(own) - frames.start + first
      low, high = np.minimum(starts, ends), np.maximum(starts, ends)
      is_gene = np.array([(strand, end) in truth for end in ends.tolist()], bool)
      unclear = np.append(0, np.cumsum(masked[int(strand < 0)]))
      kept = is_gene | (unclear[high] == unclear[low])
      features.append(frames.features[kept])
      labels.append(is_gene[kept])
  x, y = np.concatenate(features), np.concatenate(labels)
  fitted, bias = linear(scaled(LogisticRegression(max_iter=3000)).fit(x, y))
  return dataclasses.replace(
    model, call_weights={**dict(zip(FEATURES, fitted.tolist(), strict=True)), "bias": bias}
  )


def start_choices(
  model: CodingModel,
  numbers: Int64[np.ndarray, " L"],
  motif: Float64[np.ndarray, " L"],
  start: int,
  end: int,
) -> tuple[Float64[np.ndarray, "s 5"], int] | None:
  """Returns the features of all start codons of a gene, for a fit of `start_weights`.

  Args:
    model: evidence; its weights are not used.
    numbers: triplets of the strand as it is read: `words`.
    motif: log odds that `motif_odds` returns for that strand.
    start: first base of the annotated start codon.
    end: base after the stop codon.

  Returns:
    The features of `START_FEATURES`, and which row is the annotated start. None where that is no
    start codon of the frame.
  """
  before = numbers[: end - 3][::-1][2::3]
  stops = np.flatnonzero(np.isin(before, [word(codon) for codon in STOPS]))
  n = int(stops[0]) if len(stops) else len(before)
  first = end - 3 * (n + 1)
  codons = numbers[first:end:3]
  at = np.flatnonzero(np.isin(codons, [word(codon) for codon in STARTS]))
  annotated = np.flatnonzero(first + 3 * at == start)
  if not len(annotated):
    return None
  pairs = np.concatenate([[0.0], np.cumsum(pair_odds(model, codons))])
  kinds: list[Bool[np.ndarray, " s"]] = [codons[at] == word(codon) for codon in STARTS[1:]]
  columns = (*kinds, motif[first:end:3][at], pairs[-1] - pairs[at + 1], len(codons) - at)
  return np.column_stack(columns).astype(np.float64), int(annotated[0])


def _choose_starts(choices: Sequence[tuple[np.ndarray, int]]) -> list[float]:
  """Fits weights under which the annotated start is the likeliest of a gene's start codons."""

  def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
    value, slope = 0.0, np.zeros_like(weights)
    for features, chosen in choices:
      score = features @ weights
      value += float(special.logsumexp(score) - score[chosen])
      slope += special.softmax(score) @ features - features[chosen]
    n = len(choices)
    return value / n + 1e-4 * float(weights @ weights), slope / n + 2e-4 * weights

  scale = np.concatenate([features for features, _ in choices]).std(axis=0)
  scale = np.where(scale > 0, scale, 1.0)
  choices = [(features / scale, chosen) for features, chosen in choices]
  found = optimize.minimize(loss, np.zeros(len(scale)), jac=True, method="L-BFGS-B")
  return [float(value) for value in found.x / scale]


def _weigh_pairs(known: tuple[PairModel, PairModel], report: Report, data: SplitData) -> PairModel:
  """Weighs what needs no checkpoint against the scores of one, on validation pairs."""
  columns = pair_columns(report, data.pair_features(report.split))
  same = report.predictions.pairs["same_operon"]
  if min(same.sum(), (~same).sum()) < LEAST_PAIRS:
    return _mixed_pairs(known, (0.5, 0.5), {}, 0.0)
  trained = "gene_expression" not in report.skipped
  names = [JUNCTION, EXPRESSION] if trained else [JUNCTION]
  odds = [model.log_odds(columns) for model in known]
  features = np.column_stack([*odds, *(columns[name] for name in names)])
  weights, bias = linear(scaled(LogisticRegression()).fit(features, same))
  shares, own = weights[:2].tolist(), weights[2:].tolist()
  return _mixed_pairs(known, shares, dict(zip(names, own, strict=True)), bias)


def _mixed_pairs(
  known: tuple[PairModel, PairModel],
  shares: Sequence[float],
  weights: Mapping[str, float],
  bias: float,
) -> PairModel:
  """Adds up a linear model and trees by their shares, and weights of further features."""
  (of_linear, of_trees), (plain, boosted) = shares, known
  assert boosted.trees is not None
  return PairModel(
    {name: of_linear * weight for name, weight in plain.weights.items()} | dict(weights),
    bias + of_linear * plain.bias + of_trees * boosted.bias,
    boosted.trees.times(of_trees),
    boosted.tree_features,
  )


def _weigh_expression(
  known: tuple[ExpressionModel, ExpressionModel],
  genes: Mapping[str, np.ndarray],
  data: SplitData,
) -> ExpressionModel:
  """Weighs what sequence and genes say against what a checkpoint predicts, on validation genes."""
  none = np.zeros((len(data.store.all_genes), len(known[0].tracks)))
  each = [data.genome.z(model, none)[genes["row"]] for model in known]
  tracks = {}
  for i, (name, plain) in enumerate(known[0].tracks.items()):
    boosted = known[1].tracks[name]
    x = np.column_stack([*(z[:, i] for z in each), genes["predicted_z"][:, i]])
    y = genes["target_z"][:, i]
    mask = ~np.isnan(y) & ~np.isnan(x).any(axis=1)
    of_linear, of_trees, predicted, bias = 0.5, 0.5, 0.0, 0.0
    if mask.sum() >= LEAST_GENES:
      fitted = LinearRegression().fit(x[mask], y[mask])
      of_linear, of_trees, predicted = fitted.coef_.tolist()
      bias = float(fitted.intercept_)
    assert boosted.trees is not None
    tracks[name] = TrackModel(
      plain.mate_gap_bp,
      [of_linear * weight for weight in plain.weights],
      predicted,
      bias + of_linear * plain.bias + of_trees * boosted.bias,
      boosted.trees.times(of_trees),
    )
  return ExpressionModel(tracks)


def _fit_density(
  predictions: Predictions, store: TrackStore, model: CodingModel
) -> DensityModel | None:
  """Fits genes per bin on what the genes called in validation say, and what a checkpoint does."""
  logits = predictions.bases["gene_structure"]
  calls = call_regions(predictions.layout, logits, store, model)
  bins, columns = density_columns(predictions, calls)
  if len(bins) < LEAST_GENES:
    return None
  fitted = LinearRegression().fit(columns, predictions.targets["gene_density"][bins, 0])
  return DensityModel(fitted.coef_.tolist(), float(fitted.intercept_))
