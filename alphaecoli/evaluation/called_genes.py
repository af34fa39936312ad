"""Genes called by Prodigal, what they say of operons and density; how right called genes are.

Prodigal: Hyatt et al. 2010, doi:10.1186/1471-2105-11-119, through pyrodigal (Larralde 2022,
doi:10.21105/joss.04296), which is GPL-3 and therefore an extra, imported when it is used.
The model's own gene calls are those of genomics/gene_calls.py.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from alphaecoli.evaluation.split_arrays import Layout
from alphaecoli.files import optional
from alphaecoli.genomics.sequence import decode
from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.gene_table import GeneTable
from alphaecoli.tracks.gene_targets import DensityIndex, is_protein_coding, is_rna
from alphaecoli.tracks.splits import TRAIN
from alphaecoli.tracks.store import TrackStore

EXTRA = "rivals"
SHORTEST_BP = 20_000  # Prodigal does not train on less
_WRAP_BP = 20_000  # of a circular sequence that are read again after its end
_FAR_BP = 10_000.0  # stands for the gap to a neighbour that is not on the same strand
_GAP_STEPS = (-1e3, -20, -5, -2, 0, 5, 10, 20, 30, 40, 50, 60, 80, 100, 125, 150, 200, 250, 300,
              400, 600)  # fmt: skip


class CalledGenes(NamedTuple):
  """Genes called from sequence, sorted by start; the stop codon is part of a gene.

  Attributes:
    start: first base, 0 <= start < L.
    end: base after the last one; past L where the gene crosses the origin.
    strand: +1 or -1.
  """

  start: Int64[np.ndarray, "g"]
  end: Int64[np.ndarray, "g"]
  strand: Int64[np.ndarray, "g"]


class Segments(NamedTuple):
  """The called genes, then the intergenic bases after each of them.

  Attributes:
    start: first base, 0 <= start < L.
    end: base after the last one; past L where the segment crosses the origin.
    gap_bp: bases between a gene and the nearest neighbour of its strand; of an intergenic segment
      between genes of one strand, its length. Negative where genes overlap; `_FAR_BP` without such
      a neighbour.
    features: for a linear model of "in an operon".
  """

  start: Int64[np.ndarray, "k"]
  end: Int64[np.ndarray, "k"]
  gap_bp: Float64[np.ndarray, "k"]
  features: Float64[np.ndarray, "k F"]


def call_genes(store: TrackStore) -> list[CalledGenes]:
  """Calls the protein-coding genes of each contig of a genome with Prodigal.

  Prodigal is trained, without labels, on the sequence of all training regions, and then reads each
  contig whole, across the origin where it is circular. No gene runs off an end.

  Raises:
    ConfigError: pyrodigal is not installed.
    ValueError: the training regions have less than `SHORTEST_BP`.
  """
  pyrodigal = optional("pyrodigal", EXTRA)
  finder = pyrodigal.GeneFinder(closed=True)
  regions = [
    own.sequence.take(range(r.start, r.end), mode="wrap")
    for own in store.replicons
    for r in own.regions(TRAIN)
  ]
  if sum(map(len, regions)) < SHORTEST_BP:
    raise ValueError(f"Prodigal needs {SHORTEST_BP} bp of training regions")
  finder.train(*map(decode, regions))
  return [_find_genes(finder, own) for own in store.replicons]


def _find_genes(finder: Any, store: TrackStore) -> CalledGenes:
  """Calls the genes of one contig with a trained finder."""
  codes, length_bp = np.asarray(store.sequence), store.length_bp
  wrap = min(_WRAP_BP, length_bp) if store.circular else 0
  found: list[Any] = finder.find_genes(decode(codes.take(range(length_bp + wrap), mode="wrap")))
  # The first bases are read again beyond the end, where genes that cross the origin are whole.
  kept = sorted(
    ((gene.begin - 1) % length_bp, gene.end - gene.begin + 1, gene.strand)
    for gene in found
    if wrap // 2 <= gene.begin - 1 < length_bp + wrap // 2
  )
  start, size, strand = np.array(kept, np.int64).reshape(-1, 3).T
  return CalledGenes(start, start + size, strand)


def segments(genes: CalledGenes, store: TrackStore) -> Segments:
  """Cuts a chromosome at called genes."""
  start, end, strand = genes
  length_bp, n = store.length_bp, len(start)
  # The furthest end so far: where genes overlap, no intergenic bases lie between them.
  reach = np.maximum.accumulate(end) if n else end
  following = np.append(start[1:], start[:1] + length_bp)
  same = strand == np.append(strand[1:], strand[:1])
  if not store.circular or n < 2:
    same[-1:] = False
    following[-1:] = length_bp
  gap = (following - end).astype(np.float64)
  after = np.where(same, gap, _FAR_BP)
  before = np.roll(after, 1)
  nearest = np.where(np.abs(before) < np.abs(after), before, after)
  other = np.where(nearest == before, after, before)
  between = following > reach
  size = np.log(np.maximum(end - start, 1))
  of_genes = np.column_stack([np.ones(n), steps(nearest), steps(other), size])
  of_gaps = np.column_stack([same, steps(gap), same[:, None] * steps(gap)])[between]
  # Genes and gaps have columns of their own, so that one linear model has coefficients for each.
  features = np.zeros((n + len(of_gaps), of_genes.shape[1] + of_gaps.shape[1]))
  features[:n, : of_genes.shape[1]] = of_genes
  features[n:, of_genes.shape[1] :] = of_gaps
  return Segments(
    np.append(start, reach[between] % length_bp),
    np.append(end, (reach % length_bp + following - reach)[between]),
    np.append(nearest, after[between]),
    features,
  )


def steps(gap_bp: Float64[np.ndarray, "k"]) -> Float64[np.ndarray, "k E"]:
  """Returns whether a gap is longer than each of a row of lengths."""
  return (gap_bp[:, None] > np.array(_GAP_STEPS)).astype(np.float64)


def paint(
  found: Segments, score: Float64[np.ndarray, "k"], n_genes: int, length_bp: int
) -> Float64[np.ndarray, "L"]:
  """Gives bases the score of their segment: of overlapping genes the highest, else the lowest."""
  track = np.full(length_bp, score.min(initial=0.0) - 1)
  genes = np.argsort(score[:n_genes], kind="stable")
  for i in [*range(n_genes, len(score)), *genes]:
    start, end = found.start[i], found.end[i]
    track[start:end] = score[i]
    if end > length_bp:
      track[: end - length_bp] = score[i]
  return track


def operon_bases(
  cut: Segments, store: TrackStore, layout: Layout
) -> tuple[Bool[np.ndarray, "k"], Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
  """Returns which segments of a contig lie in a layout; their bases in operons; those known."""
  intervals = zip(cut.start, cut.end, strict=True)
  inside = np.array([layout.locate(int(a), int(b)) is not None for a, b in intervals], bool)

  def count(mask: np.ndarray) -> Int64[np.ndarray, "n"]:
    # Sums up to a base, twice around, for segments that cross the origin.
    total = np.append(0, np.cumsum(np.append(mask, mask), dtype=np.int64))
    return (total[cut.end] - total[cut.start])[inside]

  return inside, count(store.operon_membership * store.operon_known), count(store.operon_known)


def density_features(
  genes: CalledGenes, store: TrackStore, start: int, n_bins: int
) -> Float64[np.ndarray, "N F"]:
  """Returns what called genes say of bins of 128 bp; the first column is their number in the bin.

  The others: whether there is one, two, or more, the numbers in both neighbouring bins, and the
  share of the bin's bases in genes.

  Args:
    genes: genes called from the sequence.
    store: track store of the chromosome.
    start: first base of the first bin.
    n_bins: number of bins, at most L bases in all.
  """
  intervals = [((int(a), int(b)),) for a, b in zip(genes.start, genes.end, strict=True)]
  index = DensityIndex.of_genes(intervals, store.length_bp, store.circular)
  here = index.counts(start, n_bins)
  sides = [index.counts(start + shift, n_bins) for shift in (-BIN_BP, BIN_BP)]
  inside = covered(genes, store)[np.arange(start, start + n_bins * BIN_BP) % store.length_bp]
  share = inside.reshape(n_bins, BIN_BP).mean(axis=1)
  return np.column_stack([here, here == 1, here == 2, here > 2, *sides, share]).astype(np.float64)


def covered(genes: CalledGenes, store: TrackStore) -> Bool[np.ndarray, "L"]:
  """Returns whether a base lies in a gene."""
  inside = np.zeros(store.length_bp, bool)
  for start, end in zip(genes.start, genes.end, strict=True):
    inside[start:end] = True
    inside[: max(end - store.length_bp, 0)] = True
  return inside


def call_accuracy(
  calls: Sequence[CalledGenes], store: TrackStore, split: str
) -> dict[str, tuple[float, int]]:
  """Compares the genes called on each contig with the annotated protein-coding genes of a split.

  Both count where they lie fully in a region of the split. A call is right where strand and 3' end
  (the stop codon) are those of an annotated gene; "exact" where the 5' end is too. Calls on the
  strand of a pseudogene, an interrupted gene or one of unknown strand that overlaps them are
  neither right nor wrong, unless they are right.

  Returns:
    stop_sensitivity and exact_sensitivity: share of the annotated genes that are called;
    stop_precision and exact_precision: share of the calls that are right; each with the number of
    genes that it is a share of. NaN where there are none.
  """
  each = [_are_right(*own, split) for own in zip(calls, store.replicons, strict=True)]
  return {name: _share(list(itertools.chain(*(own[name] for own in each)))) for name in each[0]}


def _are_right(genes: CalledGenes, store: TrackStore, split: str) -> dict[str, list[bool]]:
  """Tells, of the genes of one contig, which annotated ones are called and which calls right."""
  table, length_bp = store.genes, store.length_bp
  layout = Layout.of_contig(store, split)
  coding = is_protein_coding(table)
  truth = CalledGenes(*(np.asarray(v, np.int64) for v in (table.start, table.end, table.strand)))
  annotated = _ends(truth, coding, length_bp)
  called = _ends(genes, np.ones(len(genes.start), bool), length_bp)
  wanted = _ends(truth, coding & _inside(truth, layout), length_bp)
  masked = np.zeros((2, length_bp), bool)  # forward strand, reverse strand
  for start, end, strand in zip(*(column[unclear_genes(table)] for column in truth), strict=True):
    at = np.arange(start, end) % length_bp
    masked[[0, 1] if strand == 0 else [int(strand < 0)], at[:, None]] = True
  counted = []
  for i in np.flatnonzero(_inside(genes, layout)).tolist():
    stop, first = _end(genes, i, length_bp)
    at = np.arange(genes.start[i], genes.end[i]) % length_bp
    if stop in annotated or not masked[int(genes.strand[i] < 0), at].any():
      counted.append((stop, first))
  return {
    "stop_sensitivity": [stop in called for stop in wanted],
    "stop_precision": [stop in annotated for stop, _ in counted],
    "exact_sensitivity": [called.get(stop) == first for stop, first in wanted.items()],
    "exact_precision": [annotated.get(stop) == first for stop, first in counted],
  }


def unclear_genes(genes: GeneTable) -> Bool[np.ndarray, "G"]:
  """Returns which genes are neither protein-coding nor RNA genes: pseudogenes, interrupted ones."""
  return np.asarray(~is_protein_coding(genes) & ~is_rna(genes))


def _end(genes: CalledGenes, i: int, length_bp: int) -> tuple[tuple[int, int], int]:
  """Returns strand and 3' end of a gene, and its 5' end."""
  low, high = int(genes.start[i]) % length_bp, int(genes.end[i]) % length_bp
  return ((1, high), low) if genes.strand[i] > 0 else ((-1, low), high)


def _ends(
  genes: CalledGenes, which: Shaped[np.ndarray, "g"], length_bp: int
) -> dict[tuple[int, int], int]:
  """Returns the 5' end of genes by strand and 3' end."""
  return dict(_end(genes, i, length_bp) for i in np.flatnonzero(which).tolist())


def _inside(genes: CalledGenes, layout: Layout) -> Bool[np.ndarray, "g"]:
  """Returns which genes lie fully in a region."""
  found = zip(genes.start, genes.end, strict=True)
  return np.array([layout.locate(int(a), int(b)) is not None for a, b in found], bool)


def _share(right: list[bool]) -> tuple[float, int]:
  """Returns the share of what is right, NaN of nothing, and the number."""
  return (float(np.mean(right)) if right else float("nan")), len(right)
