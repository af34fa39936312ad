"""Metrics of the auxiliary heads in a split: codon positions, genes called, operon junctions.

Also the model of pairs, which weighs a checkpoint's junction scores and the annotated genes.
"""

import dataclasses
import itertools
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from alphaecoli.evaluation import metrics
from alphaecoli.evaluation.called_genes import CalledGenes, call_accuracy
from alphaecoli.evaluation.gene_values import contig_genes, pair_subsets
from alphaecoli.evaluation.results import Metric, Report
from alphaecoli.evaluation.rival_fits import AbsentError, SplitData, fit_pairs, scaled
from alphaecoli.evaluation.split_arrays import Assembly
from alphaecoli.genomics.gene_calls import CalledGene, call_genes
from alphaecoli.genomics.gene_features import codon_counts
from alphaecoli.genomics.operon_pairs import (
  EXPRESSION,
  JUNCTION,
  Columns,
  PairModel,
  pair_features,
)
from alphaecoli.tracks.gene_targets import STRAND_CHANNELS, junction_interval
from alphaecoli.tracks.splits import TRAIN, VALIDATION
from alphaecoli.tracks.store import TrackStore

LOGGER = logging.getLogger(__name__)
_CODONS = [c for c in range(2 * STRAND_CHANNELS) if c % STRAND_CHANNELS < STRAND_CHANNELS - 1]
_RNA = [STRAND_CHANNELS - 1, 2 * STRAND_CHANNELS - 1]
LEAST_PAIRS = 20  # of either kind on validation, to weigh a checkpoint's scores by
_NONE = -50.0  # log odds of bases beside no junction: below those of any


def structure_metrics(assembly: Assembly, store: TrackStore, split: str) -> list[Metric]:
  """Computes the metrics of gene_structure: over bases, and of the genes that it calls."""
  found = []
  for name, channels in (("codon_auroc", _CODONS), ("rna_auroc", _RNA)):
    values, n = [], 0
    for channel in channels:
      target = assembly.targets["gene_structure"][:, channel]
      mask = ~np.isnan(target)
      n += int(mask.sum())
      score = assembly.predictions["gene_structure"][mask, channel]
      values.append(metrics.auroc(target[mask], score))
    defined = [v for v in values if np.isfinite(v)]
    mean = float(np.mean(defined)) if defined else metrics.NAN
    found.append(Metric(f"gene_structure/{name}", mean, 0.5, n, "bases"))
  start, end, strand = _columns([gene for part in called(assembly, store) for gene in part])
  # From split positions to the chromosome; no called gene leaves its region.
  position = assembly.layout.positions()
  first = position[start] if len(start) else start
  genes = CalledGenes(first, first + end - start, strand)
  order = np.argsort(genes.start, kind="stable")
  accuracy = call_accuracy(CalledGenes(*(column[order] for column in genes)), store, split)
  return found + [
    Metric(f"gene_calls/{key}", value, metrics.NAN, n, "genes")
    for key, (value, n) in accuracy.items()
  ]


def junction_metrics(
  assembly: Assembly, store: TrackStore, pairs: Mapping[str, np.ndarray], calls: bool
) -> list[Metric]:
  """Computes the metrics of operon_junction: over annotated pairs, and over bases by called genes.

  A base scores by the junctions on either side of the gene, called from sequence, that it lies in:
  annotation takes no part.

  Args:
    assembly: targets and predictions of the split.
    store: track store of the chromosome.
    pairs: columns over neighbouring genes, with the score of their junction.
    calls: whether gene_structure can call genes, so that bases have a score.
  """
  found = pair_metrics("operon_junction", pairs, pairs["junction"])
  if not calls:
    return found
  target = assembly.targets["operon_membership"][:, 0]
  mask = ~np.isnan(target)
  value = metrics.auroc(target[mask], operon_scores(assembly, store)[mask])
  return [*found, Metric("operon_junction/bases_auroc", value, 0.5, int(mask.sum()), "bases")]


def pair_metrics(
  head: str, pairs: Mapping[str, np.ndarray], score: Float64[np.ndarray, "p"]
) -> list[Metric]:
  """Computes AUROC of "same operon" by a head's score of pairs, beside that of their distance."""
  found = []
  gap = -pairs["distance_bp"].astype(np.float64)
  for key, rows in pair_subsets(pairs).items():
    same = pairs["same_operon"][rows]
    model, baseline = (metrics.auroc(same, by[rows]) for by in (score, gap))
    found.append(Metric(f"{head}/{key}", model, baseline, len(same), "pairs"))
  return found


def called(assembly: Assembly, store: TrackStore) -> list[list[CalledGene]]:
  """Calls genes in each region of a split, in split positions."""
  codes = store.sequence[assembly.layout.positions()]
  logits = assembly.predictions["gene_structure"]
  found, first = [], 0
  for start, end in assembly.layout.regions:
    last = first + end - start
    genes = call_genes(codes[first:last], logits[first:last])
    found.append([CalledGene(g.start + first, g.end + first, g.strand, g.score) for g in genes])
    first = last
  return found


def operon_scores(assembly: Assembly, store: TrackStore) -> Float64[np.ndarray, "n"]:
  """Scores bases to lie in an operon of several genes, by the junctions of the genes called.

  Returns:
    Log odds of the best junction beside the gene of a base; between two genes of one strand, of
    their own; low where there is none.
  """
  logits = assembly.predictions["operon_junction"].astype(np.float64)
  scores = np.full(len(logits), _NONE)
  for genes in called(assembly, store):
    for left, right in itertools.pairwise(genes):
      if left.strand == right.strand:
        ends = junction_interval((left.start, left.end), (right.start, right.end))
        value = logits[slice(*ends), int(left.strand < 0)].mean()
        part = slice(left.start, max(left.end, right.end))
        scores[part] = np.maximum(scores[part], value)
  return scores


def junction_scores(
  assembly: Assembly, genes: Mapping[str, np.ndarray], pairs: Mapping[str, np.ndarray]
) -> Float64[np.ndarray, "p"]:
  """Averages the junction's log odds over the bases of each annotated pair, on its strand."""
  logits = assembly.predictions["operon_junction"].astype(np.float64)
  first, last, strand = (genes[key].tolist() for key in ("first", "last", "strand"))
  found = []
  for left, right in zip(pairs["left"].tolist(), pairs["right"].tolist(), strict=True):
    ends = junction_interval((first[left], last[left]), (first[right], last[right]))
    found.append(logits[slice(*ends), int(strand[left] < 0)].mean())
  return np.array(found, np.float64)


class PairFit:
  """Fits the pair models of a run's checkpoints.

  A checkpoint's junction scores are better on the pairs it has learnt from than on others, so that
  a fit there would trust them too much. Hence two steps: on training pairs a linear model of what
  needs no checkpoint; on validation pairs its log odds, the junction's and the difference of
  predicted expression, three weights in all.
  """

  def __init__(self, window_bp: int):
    """Prepares fits; nothing is computed yet.

    Args:
      window_bp: length of the model's evaluation windows.
    """
    self._window_bp = window_bp
    self._first: dict[Path, tuple[SplitData, PairModel] | None] = {}  # the same for every step

  def fit(self, report: Report, store: TrackStore) -> tuple[Report, PairModel | None]:
    """Fits the model of one checkpoint, and adds what it gives to the checkpoint's report.

    Args:
      report: the checkpoint's validation report.
      store: its track store.

    Returns:
      The same report and None where no model can be fitted; the linear model alone where validation
      has too few pairs for more.
    """
    if "operon_junction" in report.skipped:
      return report, None
    if store.path not in self._first:
      self._first[store.path] = self._fit_annotation(store)
    if (first := self._first[store.path]) is None:
      return report, None
    data, model = first
    columns = _pair_columns(report, data.pair_features(report.split))
    same = report.predictions.pairs["same_operon"]
    if min(same.sum(), (~same).sum()) >= LEAST_PAIRS:
      model = self._weigh(report, columns, model)
    return _with_probability(report, columns, model), model

  def _weigh(self, report: Report, columns: Columns, known: PairModel) -> PairModel:
    """Weighs what needs no checkpoint against the scores of one, on validation pairs."""
    trained = "gene_expression" not in report.skipped
    names = [JUNCTION, EXPRESSION] if trained else [JUNCTION]
    features = np.column_stack([known.log_odds(columns), *(columns[name] for name in names)])
    same = report.predictions.pairs["same_operon"]
    second = _linear(scaled(LogisticRegression()).fit(features, same), ["", *names])
    share = second.weights[""]
    weights = {name: share * weight for name, weight in known.weights.items()}
    weights |= {name: second.weights[name] for name in names}
    return PairModel(weights, second.bias + share * known.bias)

  def _fit_annotation(self, store: TrackStore) -> tuple[SplitData, PairModel] | None:
    """Fits what needs no checkpoint; None where there are no pairs of both kinds."""
    data = SplitData(store, self._window_bp)
    try:
      model, _ = fit_pairs(data)
    except AbsentError as absent:
      LOGGER.info("no model of pairs from annotated genes: %s", absent)
      return None
    n = len(data.pairs[TRAIN]["left"])
    LOGGER.info("pairs of neighbouring genes: fitted a linear model on %d training pairs", n)
    return data, _linear(model, list(data.pair_features(VALIDATION)))


def _linear(model: Pipeline, names: list[str]) -> PairModel:
  """Returns a logistic regression on scaled features as one on the features themselves."""
  scaler, logistic = model[0], model[-1]
  weights = logistic.coef_[0] / scaler.scale_
  bias = float(logistic.intercept_[0] - weights @ scaler.mean_)
  return PairModel(dict(zip(names, weights.tolist(), strict=True)), bias)


def with_annotation(report: Report, store: TrackStore, model: PairModel | None) -> Report:
  """Adds the probability that a checkpoint's pair model gives to a report, and its metric."""
  if model is None or "operon_junction" in report.skipped:
    return report
  genes, pairs = report.predictions.genes, report.predictions.pairs
  left, right = (genes["row"][pairs[side]] for side in ("left", "right"))
  contig = contig_genes(store)
  features = pair_features(contig, codon_counts(contig), left, right, pairs["distance_bp"])
  return _with_probability(report, _pair_columns(report, features), model)


def _pair_columns(report: Report, features: Columns) -> Columns:
  """Adds what the checkpoint says of a split's pairs to the features of their genes."""
  genes, pairs = report.predictions.genes, report.predictions.pairs
  z = genes["predicted_z"]
  difference = np.abs(z[pairs["left"]] - z[pairs["right"]]).mean(axis=1)
  return {**features, JUNCTION: pairs["junction"], EXPRESSION: difference}


def _with_probability(report: Report, columns: Columns, model: PairModel) -> Report:
  """Adds a column to the pairs of a report, and a metric before its losses."""
  pairs = report.predictions.pairs
  same, distance = pairs["same_operon"], pairs["distance_bp"].astype(np.float64)
  probability = model.probability(columns)
  value, baseline = metrics.auroc(same, probability), metrics.auroc(same, -distance)
  metric = Metric("operon_pairs/annotated_auroc", value, baseline, len(same), "pairs")
  predictions = dataclasses.replace(
    report.predictions, pairs={**pairs, "probability_annotated": probability}
  )
  first = next(i for i, m in enumerate(report.metrics) if m.name.startswith("loss/"))
  found = (*report.metrics[:first], metric, *report.metrics[first:])
  return dataclasses.replace(report, metrics=found, predictions=predictions)


def _columns(genes: list[CalledGene]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns start, end and strand of called genes as columns."""
  rows = np.array([(g.start, g.end, g.strand) for g in genes], np.int64).reshape(-1, 3)
  return rows[:, 0], rows[:, 1], rows[:, 2]
