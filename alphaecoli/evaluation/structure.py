"""Metrics of the auxiliary heads in a split: codon positions, genes called, operon junctions."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64

from alphaecoli.evaluation import metrics
from alphaecoli.evaluation.called_genes import CalledGenes, call_accuracy, unclear_genes
from alphaecoli.evaluation.gene_values import pair_subsets
from alphaecoli.evaluation.results import Metric
from alphaecoli.evaluation.split_arrays import Assembly, Layout, split_sequence
from alphaecoli.genomics.coding_model import CodingModel
from alphaecoli.genomics.gene_calls import CalledGene, call_genes, call_rna_genes
from alphaecoli.tracks.gene_targets import STRAND_CHANNELS, is_protein_coding, junction_interval
from alphaecoli.tracks.store import TrackStore

RegionCalls = Sequence[Sequence[CalledGene]]  # by region of a split, in split positions
_CODONS = [c for c in range(2 * STRAND_CHANNELS) if c % STRAND_CHANNELS < STRAND_CHANNELS - 1]
_RNA = [STRAND_CHANNELS - 1, 2 * STRAND_CHANNELS - 1]
_NONE = -50.0  # log odds of bases beside no junction: below those of any
# Log odds of a base before or after all genes of an operon, less than those of the gene beside it:
# transcripts begin before their first gene and end after the last one. Not tuned: 2 to 4 are alike.
_BESIDE = 3.0


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
    mean = metrics.mean_defined(values)
    found.append(Metric(f"gene_structure/{name}", mean, 0.5, n, "bases"))
  calls = call_regions(assembly.layout, assembly.predictions["gene_structure"], store)
  return found + call_metrics(calls, assembly.layout, store, split)


def call_regions(
  layout: Layout,
  logits: Float[np.ndarray, "n 8"],
  store: TrackStore,
  model: CodingModel | None = None,
) -> list[list[CalledGene]]:
  """Calls genes in each region of a split, protein-coding and RNA; none leaves its region.

  Args:
    layout: regions of the split.
    logits: predicted gene_structure of the split.
    store: track store with the contigs of the layout.
    model: coding model of the checkpoint, if it has one.

  Returns:
    By region the genes, sorted by start, in split positions.
  """
  codes = split_sequence(layout, store)
  found = []
  for first, last in layout.places:
    own = logits[first:last]
    genes = call_genes(codes[first:last], own, model=model) + call_rna_genes(own)
    moved = (dataclasses.replace(g, start=g.start + first, end=g.end + first) for g in genes)
    found.append(sorted(moved, key=lambda gene: (gene.start, gene.end)))
  return found


def call_metrics(calls: RegionCalls, layout: Layout, store: TrackStore, split: str) -> list[Metric]:
  """Compares the protein-coding genes called in a split with the annotated ones."""
  genes = [gene for part in calls for gene in part if not gene.rna]
  rows = np.array([(g.start, g.end, g.strand) for g in genes], np.int64).reshape(-1, 3)
  start, end, strand = rows.T
  # From split positions to those on the contigs, which `positions` counts one after the other.
  first = layout.positions()[start] if len(start) else start
  found, before = [], 0
  for own in store.replicons:
    inside = np.flatnonzero((before <= first) & (first < before + own.length_bp))
    at = inside[np.argsort(first[inside], kind="stable")]
    begin = first[at] - before
    found.append(CalledGenes(begin, begin + end[at] - start[at], strand[at]))
    before += own.length_bp
  accuracy = call_accuracy(found, store, split)
  return [
    Metric(f"gene_calls/{key}", value, metrics.NAN, n, "genes")
    for key, (value, n) in accuracy.items()
  ]


def annotated_genes(
  layout: Layout, store: TrackStore
) -> tuple[dict[tuple[int, int], int], Bool[np.ndarray, "2 n"]]:
  """Returns the annotated protein-coding genes of a split, and where none can be told.

  Returns:
    5' boundary by strand and 3' boundary, in split positions; and for each strand the bases of
    pseudogenes and interrupted genes.
  """
  truth: dict[tuple[int, int], int] = {}
  masked = np.zeros((2, layout.n_bases), bool)
  before = 0
  for part, own in zip(layout.parts, store.replicons, strict=True):
    genes = own.genes
    kinds = is_protein_coding(genes), unclear_genes(genes)
    for start, end, strand, coding, unclear in zip(
      genes.start.tolist(), genes.end.tolist(), genes.strand.tolist(), *kinds, strict=True
    ):
      if (where := part.locate(start, end)) is None:
        continue
      low, high = before + where.start, before + where.stop
      if coding:
        stop, first = (high, low) if strand > 0 else (low, high - 1)
        truth[strand, stop] = first
      elif unclear:
        masked[[0, 1] if strand == 0 else [int(strand < 0)], low:high] = True
    before += part.n_bases
  return truth, masked


def junction_metrics(
  assembly: Assembly, store: TrackStore, pairs: Mapping[str, np.ndarray], calls: bool
) -> list[Metric]:
  """Computes the metrics of operon_junction: over annotated pairs, and over bases by called genes.

  Args:
    assembly: targets and predictions of the split.
    store: track store.
    pairs: columns over neighbouring genes, with the score of their junction.
    calls: whether gene_structure can call genes, so that bases have a score.
  """
  found = pair_metrics("operon_junction", pairs, pairs["junction"])
  if not calls:
    return found
  genes = call_regions(assembly.layout, assembly.predictions["gene_structure"], store)
  target = assembly.targets["operon_membership"][:, 0]
  junction = assembly.predictions["operon_junction"]
  return [*found, bases_metric(genes, assembly.layout, junction, target)]


def bases_metric(
  calls: RegionCalls,
  layout: Layout,
  junction: Float[np.ndarray, "n 2"],
  target: Float[np.ndarray, " n"],
) -> Metric:
  """Computes AUROC of "in an operon" over bases, by the junctions of the genes called around them.

  A base scores by the junctions on either side of the gene, called from sequence, that it lies in:
  annotation takes no part.
  """
  mask = ~np.isnan(target)
  odds = [junction_odds(junction, *pair) for part in calls for pair in linked(part)]
  score = operon_scores(calls, odds, layout)
  value = metrics.auroc(target[mask], score[mask])
  return Metric("operon_junction/bases_auroc", value, 0.5, int(mask.sum()), "bases")


def pair_metrics(
  head: str, pairs: Mapping[str, np.ndarray], score: Float64[np.ndarray, "p"]
) -> list[Metric]:
  """Computes AUROC of "same operon" by a head's score of pairs, beside that of their distance."""
  subsets = pair_subsets(pairs).items()
  return [pairs_auroc(f"{head}/{key}", pairs, score, rows) for key, rows in subsets]


def pairs_auroc(
  name: str,
  pairs: Mapping[str, np.ndarray],
  score: Float64[np.ndarray, "p"],
  rows: np.ndarray | slice = slice(None),
) -> Metric:
  """Computes AUROC of "same operon" by a score of pairs, all or some, beside their distance's."""
  same, gap = pairs["same_operon"][rows], -pairs["distance_bp"].astype(np.float64)
  model, baseline = (metrics.auroc(same, by[rows]) for by in (score, gap))
  return Metric(name, model, baseline, len(same), "pairs")


def linked(genes: Sequence[CalledGene]) -> list[tuple[CalledGene, CalledGene]]:
  """Returns the neighbours on one strand among the genes called in a region."""
  return [pair for pair in itertools.pairwise(genes) if pair[0].strand == pair[1].strand]


def junction_odds(logits: Float[np.ndarray, "n 2"], left: CalledGene, right: CalledGene) -> float:
  """Averages the log odds of the junction of two genes, on their strand."""
  ends = junction_interval((left.start, left.end), (right.start, right.end))
  return float(logits[slice(*ends), int(left.strand < 0)].mean(dtype=np.float64))


def operon_scores(
  calls: RegionCalls, odds: Sequence[float], layout: Layout
) -> Float64[np.ndarray, " n"]:
  """Scores bases to lie in an operon of several genes, by the pairs of the genes called.

  Args:
    calls: genes of each region.
    odds: of the pairs that `linked` finds, region after region.
    layout: regions of the split.

  Returns:
    Log odds of the best pair that the gene of a base belongs to; between two genes of one strand,
    of their own; elsewhere outside of genes, less than those of the better gene beside it.
  """
  scores, inside = np.full(layout.n_bases, _NONE), np.zeros(layout.n_bases, bool)
  pairs = (pair for part in calls for pair in linked(part))
  for (left, right), value in zip(pairs, odds, strict=True):
    part = slice(left.start, max(left.end, right.end))
    scores[part] = np.maximum(scores[part], value)
    inside[part] = True
  for gene in itertools.chain.from_iterable(calls):
    inside[gene.start : gene.end] = True
  for first, last in layout.places:
    at = first + np.flatnonzero(inside[first:last])
    if len(at):
      outside = first + np.flatnonzero(~inside[first:last])
      after = np.searchsorted(at, outside)
      near = scores[[at[np.maximum(after - 1, 0)], at[np.minimum(after, len(at) - 1)]]]
      scores[outside] = near.max(axis=0) - _BESIDE
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
