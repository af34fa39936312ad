"""Metrics of the auxiliary heads in a split: codon positions, genes called, operon junctions."""

import itertools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from alphaecoli.evaluation import metrics
from alphaecoli.evaluation.called_genes import CalledGenes, call_accuracy
from alphaecoli.evaluation.gene_values import pair_subsets
from alphaecoli.evaluation.results import Metric
from alphaecoli.evaluation.split_arrays import Assembly
from alphaecoli.genomics.gene_calls import CalledGene, call_genes
from alphaecoli.tracks.gene_targets import STRAND_CHANNELS, junction_interval
from alphaecoli.tracks.store import TrackStore

_CODONS = [c for c in range(2 * STRAND_CHANNELS) if c % STRAND_CHANNELS < STRAND_CHANNELS - 1]
_RNA = [STRAND_CHANNELS - 1, 2 * STRAND_CHANNELS - 1]
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


def _columns(genes: list[CalledGene]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns start, end and strand of called genes as columns."""
  rows = np.array([(g.start, g.end, g.strand) for g in genes], np.int64).reshape(-1, 3)
  return rows[:, 0], rows[:, 1], rows[:, 2]
