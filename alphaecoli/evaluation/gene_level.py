"""Metrics of a split by genes: what a checkpoint's gene models make of what its network predicts.

Of annotated genes: expression, and pairs that share an operon. Of genes called from the sequence:
which are right, bases in operons, pairs and density; annotation takes no part in their scores.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int64
from numpy.lib.stride_tricks import sliding_window_view

from alphaecoli.evaluation import metrics
from alphaecoli.evaluation.gene_values import Columns, GenomeGenes
from alphaecoli.evaluation.results import Metric, Predictions, Report
from alphaecoli.evaluation.split_arrays import split_sequence
from alphaecoli.evaluation.structure import (
  RegionCalls,
  bases_metric,
  call_metrics,
  call_regions,
  junction_odds,
  linked,
  operon_scores,
  pairs_auroc,
)
from alphaecoli.genomics.gene_calls import CalledGene
from alphaecoli.genomics.gene_features import ContigGenes, codon_counts
from alphaecoli.genomics.gene_models import (
  EXPRESSION,
  JUNCTION,
  DensityModel,
  ExpressionModel,
  GeneModels,
  PairModel,
  pair_features,
)
from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.gene_targets import DensityIndex, is_protein_coding
from alphaecoli.tracks.store import TrackStore


def with_gene_models(report: Report, store: TrackStore, models: GeneModels) -> Report:
  """Adds what gene models give to a report: columns of its genes and pairs, and metrics.

  Metrics of called genes that were computed without a coding model are replaced.
  """
  found: list[Metric] = []
  genes, pairs = dict(report.predictions.genes), dict(report.predictions.pairs)
  if models.expression is not None and "gene_expression" not in report.skipped:
    genes["annotated_z"] = _expression(report, store, models.expression)
    found += _expression_metrics(genes, store)
  if models.pairs is not None and "operon_junction" not in report.skipped:
    pairs["probability_annotated"] = probability = _annotated_pairs(report, store, models.pairs)
    found.append(pairs_auroc("operon_pairs/annotated_auroc", pairs, probability))
  if models.calls is not None and "gene_structure" not in report.skipped:
    layout, bases = report.predictions.layout, report.predictions.bases
    calls = call_regions(layout, bases["gene_structure"], store, models.calls)
    found += call_metrics(calls, layout, store, report.split)
    if models.density is not None and "gene_density" not in report.skipped:
      found.append(_density_metric(report, calls, models.density))
    if "operon_junction" not in report.skipped:
      target = report.predictions.targets["operon_membership"][:, 0]
      found.append(bases_metric(calls, layout, bases["operon_junction"], target))
      if models.pairs is not None:
        found += _called_pairs(report, store, calls, models.pairs)
  predictions = dataclasses.replace(report.predictions, genes=genes, pairs=pairs)
  return dataclasses.replace(
    report, metrics=_replaced(report.metrics, found), predictions=predictions
  )


def _replaced(old: Sequence[Metric], new: Sequence[Metric]) -> tuple[Metric, ...]:
  """Puts new metrics in the place of those of the same name, and others before the losses."""
  by_name = {metric.name: metric for metric in new}
  found = [by_name.pop(metric.name, metric) for metric in old]
  first = next(i for i, metric in enumerate(found) if metric.name.startswith("loss/"))
  return (*found[:first], *by_name.values(), *found[first:])


def _expression(
  report: Report, store: TrackStore, model: ExpressionModel
) -> Float64[np.ndarray, "g T"]:
  """Returns the z-scores that the expression model gives the annotated genes of a split."""
  genes = report.predictions.genes
  predicted = np.full((len(store.all_genes), genes["predicted_z"].shape[1]), np.nan)
  predicted[genes["row"]] = genes["predicted_z"]
  return GenomeGenes(store).z(model, predicted)[genes["row"]]


def _expression_metrics(genes: Mapping[str, np.ndarray], store: TrackStore) -> list[Metric]:
  """Computes R² over all genes and over protein-coding ones; over tracks the mean."""
  target, z = genes["target_z"], genes["annotated_z"]
  coding = is_protein_coding(store.all_genes)[genes["row"]]
  found = []
  for name, kind in (("annotated_r2", np.ones(len(coding), bool)), ("annotated_coding_r2", coding)):
    rows = [~np.isnan(y) & ~np.isnan(p) & kind for y, p in zip(target.T, z.T, strict=True)]
    each = [metrics.r2(y[r], p[r]) for y, p, r in zip(target.T, z.T, rows, strict=True)]
    zero = [metrics.r2(y[r], np.zeros(r.sum())) for y, r in zip(target.T, rows, strict=True)]
    mean, baseline = metrics.mean_defined(each), metrics.mean_defined(zero)
    n = int(sum(r.sum() for r in rows))
    found.append(Metric(f"gene_expression/{name}", mean, baseline, n, "genes"))
  return found


def _annotated_pairs(
  report: Report, store: TrackStore, model: PairModel
) -> Float64[np.ndarray, " p"]:
  """Returns the probability that each pair of annotated genes shares an operon."""
  features = GenomeGenes(store).pair_features(report.predictions.genes, report.predictions.pairs)
  return model.probability(pair_columns(report, features))


def pair_columns(report: Report, features: Columns) -> Columns:
  """Adds what the checkpoint says of a split's pairs to the features of their genes."""
  genes, pairs = report.predictions.genes, report.predictions.pairs
  z = genes["predicted_z"]
  difference = np.abs(z[pairs["left"]] - z[pairs["right"]]).mean(axis=1)
  return {**features, JUNCTION: pairs["junction"], EXPRESSION: difference}


def density_columns(
  predictions: Predictions, calls: RegionCalls
) -> tuple[Int64[np.ndarray, " N"], Float64[np.ndarray, "N F"]]:
  """Returns first bases of a split's known bins, in split positions, and the features of each."""
  n_bases = predictions.layout.n_bases
  bins = np.flatnonzero(~np.isnan(predictions.targets["gene_density"][:, 0]))
  found = [(gene.start, gene.end) for part in calls for gene in part]
  index = DensityIndex.of_genes([[gene] for gene in found], n_bases, circular=False)
  inside = np.zeros(n_bases + BIN_BP, bool)
  for start, end in found:
    inside[start:end] = True
  here, before, after = (
    np.array([index.counts(max(int(at) + shift, 0), 1)[0] for at in bins], np.float64)
    for shift in (0, -BIN_BP, BIN_BP)
  )
  share = sliding_window_view(inside, BIN_BP)[bins].mean(axis=1)
  head = predictions.bases["gene_density"][bins, 0]
  columns = (here, here == 1, here == 2, here > 2, before, after, share, head)
  return bins, np.column_stack(columns).astype(np.float64)


def _density_metric(report: Report, calls: RegionCalls, model: DensityModel) -> Metric:
  """Computes R² of genes per bin by what the called genes say of it."""
  bins, columns = density_columns(report.predictions, calls)
  target = report.predictions.targets["gene_density"][bins, 0]
  value = metrics.r2(target, columns @ np.array(model.weights) + model.bias)
  return Metric("gene_calls/density_r2", value, metrics.NAN, len(bins), "bins")


def _called_pairs(
  report: Report, store: TrackStore, calls: RegionCalls, model: PairModel
) -> list[Metric]:
  """Scores annotated pairs and bases by the pair model on called genes.

  An annotated pair has the score of the two called genes with its stop codons; where they were not
  called side by side, that of its junction, both being log odds.
  """
  predictions = report.predictions
  codes = split_sequence(predictions.layout, store)
  odds: list[float] = []
  by_stops: dict[tuple[int, int, int], float] = {}
  for (first, last), part in zip(predictions.layout.places, calls, strict=True):
    values = _pair_odds(report, codes[first:last], part, first, model)
    for (left, right), value in zip(linked(part), values, strict=True):
      by_stops[left.strand, *_stops(left, right)] = value
    odds += values
  target = predictions.targets["operon_membership"][:, 0]
  mask = ~np.isnan(target)
  score = operon_scores(calls, odds, predictions.layout)[mask]
  found = [
    Metric("gene_calls/operon_bases_auroc", metrics.auroc(target[mask], score), 0.5,
           int(mask.sum()), "bases")
  ]  # fmt: skip
  genes, pairs = predictions.genes, predictions.pairs
  scores = pairs["junction"].copy()
  for i, (left, right) in enumerate(zip(pairs["left"], pairs["right"], strict=True)):
    strand = int(genes["strand"][left])
    ends = [genes["last" if strand > 0 else "first"][gene] for gene in (left, right)]
    scores[i] = by_stops.get((strand, int(ends[0]), int(ends[1])), scores[i])
  return [*found, pairs_auroc("gene_calls/pairs_auroc", pairs, scores)]


def _stops(left: CalledGene, right: CalledGene) -> tuple[int, int]:
  """Returns the 3' boundaries of two genes of one strand."""
  return (left.end, right.end) if left.strand > 0 else (left.start, right.start)


def _pair_odds(
  report: Report,
  codes: np.ndarray,
  genes: Sequence[CalledGene],
  first: int,
  model: PairModel,
) -> list[float]:
  """Returns the log odds of the neighbours of one strand among the genes called in a region."""
  if not (pairs := linked(genes)):
    return []
  start, end, strand = np.array([(g.start, g.end, g.strand) for g in genes], np.int64).T
  kind = np.where([gene.rna for gene in genes], "ncRNA_gene", "CDS")
  whole = np.ones(len(genes), bool)
  contig = ContigGenes(start - first, end - first, strand, kind, whole, codes, circular=False)
  left = np.flatnonzero(strand[1:] == strand[:-1])
  columns = pair_features(contig, codon_counts(contig), left, left + 1, start[left + 1] - end[left])
  bases = report.predictions.bases
  columns[JUNCTION] = np.array([junction_odds(bases["operon_junction"], *p) for p in pairs])
  columns[EXPRESSION] = np.zeros(len(pairs))
  if "gene_expression" not in report.skipped:
    z = [bases["gene_expression"][g.start : g.end].mean(axis=0, dtype=np.float64) for g in genes]
    difference = np.abs(np.array(z)[left] - np.array(z)[left + 1])
    columns[EXPRESSION] = np.nan_to_num(difference).mean(axis=1)
  return [float(value) for value in model.log_odds(columns)]
