"""Fits the rivals of rivals.py: each on the training split, its choices made on validation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from alphaecoli.data.windows import tile_windows
from alphaecoli.evaluation import called_genes, metrics
from alphaecoli.evaluation.called_genes import CalledGenes
from alphaecoli.evaluation.gene_values import (
  Columns,
  GenomeGenes,
  pair_subsets,
  split_genes,
  split_pairs,
)
from alphaecoli.evaluation.split_arrays import Layout
from alphaecoli.genomics.intervals import split_at_origin
from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.density import DensityIndex, mean_of_genes
from alphaecoli.tracks.gene_targets import is_protein_coding
from alphaecoli.tracks.splits import SPLITS, TRAIN, VALIDATION
from alphaecoli.tracks.store import TrackStore

MATE_GAPS_BP = (20, 50, 100, 200)
RIDGE_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
LOGISTIC_STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
_OVER_BASES = ("auroc", "auprc", "accuracy", "f1", "brier", "calibration_error")
_RANKING = ("auroc", "auprc")  # what a score that is no probability has
_NO_DATA = "the track store has no such data"


class Value(NamedTuple):
  """One metric of a rival.

  Attributes:
    value: NaN where undefined.
    n: number of values it was computed from.
    over: what these are: genes, bases, bins or pairs.
  """

  value: float
  n: int
  over: str


class AbsentError(Exception):
  """A rival can not be fitted; says why."""


class Found(NamedTuple):
  """Metrics of one or several rivals, and what was chosen on validation for the last."""

  metrics: Sequence[Mapping[str, Value]]
  chosen: Mapping[str, float]


class SplitData:
  """A store, and the genes of its splits as the model's metrics count them; of all contigs."""

  def __init__(self, store: TrackStore, window_bp: int):
    self.store = store
    self.window_bp = window_bp
    self.layouts = {name: Layout.of_store(store, name) for name in SPLITS}
    self.genes: dict[str, Columns] = {n: split_genes(a, store) for n, a in self.layouts.items()}
    self.pairs = {n: split_pairs(a, self.genes[n]) for n, a in self.layouts.items()}
    self.genome = GenomeGenes(store)

  def bases(self, split: str) -> Int64[np.ndarray, "n"]:
    """Returns the positions of a split; on further contigs they go on where the first ends."""
    return self.layouts[split].positions()

  def pair_features(self, split: str) -> Columns:
    """Returns the features of a split's pairs, by name."""
    return self.genome.pair_features(self.genes[split], self.pairs[split])

  def bins(self, split: str) -> list[list[tuple[int, int]]]:
    """Returns, by contig, first base and number of the bins that the model's metrics count."""
    found = []
    for own in self.store.replicons:
      regions = own.regions(split)
      tiles = tile_windows(regions, self.window_bp, own.length_bp) if regions else []
      repeated = (-(-tile.first_new_bp // BIN_BP) for tile in tiles)
      bins = [
        (tile.start + skip * BIN_BP, self.window_bp // BIN_BP - skip)
        for tile, skip in zip(tiles, repeated, strict=True)
        if skip * BIN_BP < self.window_bp
      ]
      found.append(bins)
    return found

  def training_bins(self) -> list[list[tuple[int, int]]]:
    """Returns, by contig, first base and number of the whole bins of each training region."""
    return [
      [(r.start, r.length_bp // BIN_BP) for r in own.regions(TRAIN)] for own in self.store.replicons
    ]


class TrackRidge(NamedTuple):
  """A ridge regression of one expression track.

  Attributes:
    model: fitted on training genes.
    mate_gap_bp: longest gap between likely operon mates, chosen on validation genes.
    penalty: chosen likewise.
  """

  model: Pipeline
  mate_gap_bp: float
  penalty: float


def fit_ridges(data: SplitData, features: Callable[[float], np.ndarray]) -> list[TrackRidge]:
  """Fits the expression of training genes, track by track.

  Args:
    data: genes of the splits.
    features: function from the longest gap between operon mates to the features of all genes.

  Raises:
    AbsentError: there is no expression, or a track with less than two training genes.
  """
  if not data.store.table.has_expression:
    raise AbsentError(_NO_DATA)
  options = {float(gap): features(gap) for gap in MATE_GAPS_BP}
  train, check = data.genes[TRAIN], data.genes[VALIDATION]
  found = []
  for i in range(len(data.store.table.expression)):
    y, check_y = train["target_z"][:, i], check["target_z"][:, i]
    known, check_known = ~np.isnan(y), ~np.isnan(check_y)
    if known.sum() < 2:
      raise AbsentError("fewer than two training genes have a value")
    best: tuple[float, TrackRidge] | None = None
    for gap, x in options.items():
      fit_x, check_x = x[train["row"][known]], x[check["row"][check_known]]
      for penalty in RIDGE_PENALTIES:
        model = scaled(Ridge(alpha=penalty)).fit(fit_x, y[known])
        score = 0.0
        if check_known.any():
          score = -metrics.mse(check_y[check_known], model.predict(check_x))
        if best is None or score > best[0]:
          best = score, TrackRidge(model, gap, penalty)
    assert best is not None
    found.append(best[1])
  return found


def codon_ridge(data: SplitData, split: str) -> Found:
  """Predicts the expression of genes by ridge regression on their codon use."""
  gaps = map(float, MATE_GAPS_BP)
  features = {gap: data.genome.expression_features(gap) for gap in gaps}
  ridges = fit_ridges(data, features.__getitem__)
  predicted = np.column_stack([r.model.predict(features[r.mate_gap_bp]) for r in ridges])
  names = data.store.table.names
  chosen: dict[str, float] = {}
  for name, ridge in zip(names, ridges, strict=True):
    suffix = f"/{name}" if len(names) > 1 else ""
    chosen |= {f"mate_gap_bp{suffix}": ridge.mate_gap_bp, f"penalty{suffix}": ridge.penalty}
  return Found([expression_metrics(data, split, predicted)], chosen)


def expression_metrics(
  data: SplitData, split: str, predicted: Float64[np.ndarray, "G T"]
) -> dict[str, Value]:
  """Measures predicted z-scores of genes over genes and over bases, as the model's are."""
  store, genes = data.store, data.genes[split]
  coding = is_protein_coding(store.all_genes)[genes["row"]]
  parts, first = [], 0
  for own in store.replicons:
    here, first = predicted[first : first + len(own.genes)], first + len(own.genes)
    measured = np.where(np.isnan(own.genes.log_tpm), np.nan, here)
    track = mean_of_genes(own.genes.fragments, measured, own.length_bp)
    laid = split_at_origin(own.regions(split), own.length_bp)
    parts += [(own.gene_expression[a:b], track.dense(a, b)) for a, b in laid]
  observed, of_bases = (np.concatenate(column) for column in zip(*parts, strict=True))
  each: dict[str, list[Value]] = {}
  for i in range(predicted.shape[1]):
    y, p = genes["target_z"][:, i], predicted[genes["row"], i]
    for prefix, which in (("genes", ~np.isnan(y)), ("coding_genes", ~np.isnan(y) & coding)):
      for key in ("r2", "pearson", "spearman"):
        value = getattr(metrics, key)(y[which], p[which])
        each.setdefault(f"{prefix}_{key}", []).append(Value(value, int(which.sum()), "genes"))
    mask = ~np.isnan(observed[:, i]) & ~np.isnan(of_bases[:, i])
    r2 = metrics.r2(observed[mask, i], of_bases[mask, i])
    each.setdefault("bases_r2", []).append(Value(r2, int(mask.sum()), "bases"))
  found = {}
  for key, values in each.items():
    name = f"gene_expression/{key}"
    defined = [v.value for v in values if np.isfinite(v.value)]
    mean = float(np.mean(defined)) if defined else metrics.NAN
    found[name] = Value(mean, sum(v.n for v in values), values[0].over)
    if len(values) > 1:
      found |= {f"{name}/{t}": v for t, v in zip(store.table.names, values, strict=True)}
  return found


def pair_model(data: SplitData, split: str) -> Found:
  """Tells neighbours that share an operon from others, by their gap and by a linear model."""
  model, strength = fit_pairs(data)
  scores = (
    -data.pairs[split]["distance_bp"].astype(np.float64),
    decide(model, _stack(data.pair_features(split))),
  )
  return Found([pair_metrics(data, split, score) for score in scores], {"C": strength})


def pair_metrics(data: SplitData, split: str, score: Float64[np.ndarray, "p"]) -> dict[str, Value]:
  """Measures scores of the pairs of a split, as the model's are."""
  pairs, found = data.pairs[split], {}
  for key, rows in pair_subsets(pairs).items():
    same = pairs["same_operon"][rows]
    value = metrics.auroc(same, score[rows])
    found[f"operon_membership/{key}"] = Value(value, len(same), "pairs")
  return found


def fit_pairs(data: SplitData) -> tuple[Pipeline, float]:
  """Fits the linear model of pairs, on features alone that need no model; returns it with its C.

  Raises:
    AbsentError: there are no operons, or no pairs of both kinds.
  """
  if not data.store.table.has_operons:
    raise AbsentError(_NO_DATA)
  label = {name: pairs["same_operon"] for name, pairs in data.pairs.items()}
  check_x = _stack(data.pair_features(VALIDATION))
  return _choose_logistic(
    _stack(data.pair_features(TRAIN)),
    label[TRAIN],
    np.ones(len(label[TRAIN])),
    lambda m: metrics.auroc(label[VALIDATION], decide(m, check_x)),
  )


def _stack(columns: Columns) -> Float64[np.ndarray, "p F"]:
  """Returns features as the columns of one array."""
  return np.column_stack(list(columns.values()))


def operons(data: SplitData, genes: Sequence[CalledGenes], split: str) -> Found:
  """Tells bases in operons from others by the gaps between the genes called on each contig."""
  store = data.store
  if not store.table.has_operons:
    raise AbsentError(_NO_DATA)
  cuts = [called_genes.segments(*own) for own in zip(genes, store.replicons, strict=True)]
  known = np.concatenate([own.operon_known for own in store.replicons])
  label = np.where(known, np.concatenate([o.operon_membership for o in store.replicons]), 0)
  features = np.concatenate([cut.features for cut in cuts])
  fitted = [
    called_genes.operon_bases(cut, own, layout)
    for cut, own, layout in zip(cuts, store.replicons, data.layouts[TRAIN].parts, strict=True)
  ]
  inside, positive_bp, size = (np.concatenate(column) for column in zip(*fitted, strict=True))
  fit_x = features[inside]
  of_class = np.append(np.ones(len(size), bool), np.zeros(len(size), bool))
  # Each segment stands once for its bases in an operon and once for the others, weighted in kb.
  weight = np.append(positive_bp, size - positive_bp) / 1000.0

  def track(score: Float64[np.ndarray, "k"]) -> Float64[np.ndarray, "L"]:
    edges = np.cumsum([len(cut.start) for cut in cuts])[:-1]
    each = zip(cuts, np.split(score, edges), genes, store.replicons, strict=True)
    return np.concatenate(
      [called_genes.paint(cut, part, len(of.start), own.length_bp) for cut, part, of, own in each]
    )

  check = data.bases(VALIDATION)
  check = check[known[check]]
  model, strength = _choose_logistic(
    np.concatenate([fit_x, fit_x])[weight > 0],
    of_class[weight > 0],
    weight[weight > 0],
    lambda m: metrics.auroc(label[check], track(decide(m, features))[check]),
  )
  at = data.bases(split)
  at = at[known[at]]
  fit = np.clip(track(model.predict_proba(features)[:, 1])[at], 0, 1)
  rule = track(-np.abs(np.concatenate([cut.gap_bp for cut in cuts])))[at]

  def over_bases(score: Float64[np.ndarray, "n"], names: Iterable[str]) -> dict[str, Value]:
    return {
      f"operon_membership/{name}": Value(getattr(metrics, name)(label[at], score), len(at), "bases")
      for name in names
    }

  return Found([over_bases(rule, _RANKING), over_bases(fit, _OVER_BASES)], {"C": strength})


def density(data: SplitData, genes: Sequence[CalledGenes], split: str) -> Found:
  """Predicts genes per bin by called genes, and by a line through those of training bins."""

  def arrays(bins: list[list[tuple[int, int]]]) -> tuple[np.ndarray, np.ndarray]:
    x, y = [], []
    for own, called, of_contig in zip(data.store.replicons, genes, bins, strict=True):
      annotated = DensityIndex.of_genes(own.genes.fragments, own.length_bp, own.circular)
      x += [called_genes.density_features(called, own, start, n) for start, n in of_contig]
      y += [annotated.counts(start, n) for start, n in of_contig]
    return np.concatenate(x), np.concatenate(y)

  model = LinearRegression().fit(*arrays(data.training_bins()))
  x, y = arrays(data.bins(split))
  found = []
  for predicted in (x[:, 0], model.predict(x)):
    found.append(
      {
        f"gene_density/{key}": Value(getattr(metrics, key)(y, predicted), len(y), "bins")
        for key in ("r2", "pearson", "mse")
      }
    )
  return Found(found, {})


def scaled(model: Any) -> Pipeline:
  """Returns a model on features of mean 0 and standard deviation 1 in training."""
  return make_pipeline(StandardScaler(), model)


def _choose_logistic(
  features: Float64[np.ndarray, "n F"],
  label: Bool[np.ndarray, "n"],
  weight: Float64[np.ndarray, "n"],
  score: Callable[[Any], float],
) -> tuple[Any, float]:
  """Fits logistic regressions and returns the one that scores best, with its C."""
  if label.all() or not label.any():
    raise AbsentError("the training split has one class alone")
  best: tuple[float, Any, float] | None = None
  for strength in LOGISTIC_STRENGTHS:
    model = scaled(LogisticRegression(C=strength, max_iter=2000))
    model.fit(features, label, logisticregression__sample_weight=weight)
    found = np.nan_to_num(score(model), nan=-np.inf)
    if best is None or found > best[0]:
      best = found, model, strength
  assert best is not None
  return best[1], best[2]


def decide(model: Any, features: Float64[np.ndarray, "n F"]) -> Float64[np.ndarray, "n"]:
  """Returns the log odds of rows, of which there may be none."""
  return model.decision_function(features) if len(features) else np.zeros(0)
