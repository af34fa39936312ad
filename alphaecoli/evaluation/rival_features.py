"""Features of annotated genes and of neighbouring ones, for the linear rivals of the model.

They use the annotation and the sequence of the whole chromosome, and no label: neither expression
nor operons.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from alphaecoli.genomics.sequence import UNKNOWN
from alphaecoli.tracks.gene_targets import is_protein_coding
from alphaecoli.tracks.store import TrackStore

UPSTREAM_BP = 250  # before the start of a gene, where its promoter is looked for
DOWNSTREAM_BP = 200  # after the end of a gene, where its terminator is looked for
NEAR_BP = 100  # a promoter that begins so close to the gene counts by itself
_FAR_BP = 600.0  # stands for the gap to a neighbour on the other strand
_LONGEST_GAP_BP = 1000
# Frequencies of the consensus bases (the other three are alike), and the distance of the boxes.
# Source: Hawley and McClure 1983, doi:10.1093/nar/11.8.2237.
BOXES = (
  ("TTGACA", (0.82, 0.84, 0.78, 0.65, 0.54, 0.45)),
  ("TATAAT", (0.80, 0.95, 0.45, 0.60, 0.50, 0.96)),
)
SPACERS_BP = (15, 16, 17, 18, 19)  # 17 is best; each base more or less costs one bit
# A terminator: a hairpin of at least STEM pairs and LOOPS_BP bases between, and a run of U.
# Source: d'Aubenton Carafa et al. 1990, doi:10.1016/s0022-2836(99)80005-9.
STEM, LONGEST_STEM = 5, 10
LOOPS_BP = range(3, 9)
TAIL_BP = 8
LEAST_T = 3
_BONDS = np.zeros((5, 5))  # hydrogen bonds of two bases; G·U as one
_BONDS[[0, 3, 1, 2, 2, 3], [3, 0, 2, 1, 3, 2]] = (2, 2, 3, 3, 1, 1)
_NONE = -15.0  # score where there is no promoter or terminator


class Neighbourhood(NamedTuple):
  """Every gene's place among all genes of the chromosome, ordered by start.

  Attributes:
    order: rows of the gene table by place.
    place: of each row.
    gap_bp: by place, from the gene's end to the next gene's start; `_FAR_BP` where the next gene is
      on another or an unknown strand, or where there is none.
    linked: by place, whether the next gene is on the same, known strand.
  """

  order: Int64[np.ndarray, "G"]
  place: Int64[np.ndarray, "G"]
  gap_bp: Float64[np.ndarray, "G"]
  linked: Bool[np.ndarray, "G"]


def neighbourhood(store: TrackStore) -> Neighbourhood:
  """Orders the genes of a chromosome; on a circular one the first follows the last."""
  genes = store.genes
  order = np.lexsort((genes.end, genes.start)).astype(np.int64)
  place = np.argsort(order).astype(np.int64)
  start, end, strand = (column[order] for column in (genes.start, genes.end, genes.strand))
  gap = (np.append(start[1:], start[:1] + store.length_bp) - end).astype(np.float64)
  linked = (strand == np.append(strand[1:], strand[:1])) & (strand != 0)
  if not store.circular or len(order) < 2:
    linked[-1:] = False
  return Neighbourhood(order, place, np.where(linked, gap, _FAR_BP), linked)


def codon_counts(store: TrackStore) -> Float64[np.ndarray, "G 64"]:
  """Counts the codons of every protein-coding gene; 0 for other genes."""
  genes = store.genes
  counts = np.zeros((len(genes), 64))
  for row in np.flatnonzero(is_protein_coding(genes))[:, None].astype(np.int64):
    steps = np.arange((genes.end - genes.start)[row[0]])
    boundary = _ends(store, row)[0]
    codons = bases_at(store, boundary, genes.strand[row], steps).reshape(-1, 3)
    mask = (codons < UNKNOWN).all(axis=1)
    counts[row[0]] = np.bincount(codons[mask].astype(np.int64) @ (16, 4, 1), minlength=64)
  return counts


def expression_features(
  store: TrackStore, codons: Float64[np.ndarray, "G 64"], longest_gap_bp: float
) -> Float64[np.ndarray, "G F"]:
  """Returns codon use of each gene and of its likely operon mates, with lengths and gene types.

  Likely mates are the genes of a chain on one strand in which no gap is longer than
  `longest_gap_bp`; where a gene has none, theirs is the mean over genes that have some.

  Args:
    store: track store of the chromosome.
    codons: counts that `codon_counts` returns.
    longest_gap_bp: longest gap between mates.
  """
  genes, near = store.genes, neighbourhood(store)
  chained = near.linked & (near.gap_bp <= longest_gap_bp)
  # A new number after each break of a chain; on a circular chromosome the last may join the first.
  chain = np.append(0, np.cumsum(~chained[:-1]))[: len(genes)]
  if len(genes) and chained[-1]:
    chain[chain == chain[-1]] = 0
  chain = chain[near.place]
  size = np.bincount(chain)[chain]
  total = np.zeros((len(genes), 64))
  np.add.at(total, chain, codons)
  mates = total[chain] - codons
  has_mates = mates.sum(axis=1) > 0
  use = _frequencies(mates)
  use[~has_mates] = use[has_mates].mean(axis=0) if has_mates.any() else 0
  kinds = [genes.type == kind for kind in np.unique(genes.type)]
  lengths = np.log(np.maximum(genes.end - genes.start, 1))
  more = (has_mates, np.log(size), np.log1p(mates.sum(axis=1)), lengths)
  return np.column_stack([_frequencies(codons), use, *kinds, *more]).astype(np.float64)


def pair_features(
  store: TrackStore,
  codons: Float64[np.ndarray, "G 64"],
  left: Int64[np.ndarray, "p"],
  right: Int64[np.ndarray, "p"],
  gap_bp: Int64[np.ndarray, "p"],
) -> Float64[np.ndarray, "p F"]:
  """Returns what may tell whether two neighbouring genes of one strand share an operon.

  The gap, the gaps to the genes before and after the two in the direction of transcription, their
  lengths, the best promoter before the second gene, the best terminator after the first, and how
  alike their codon use is.

  Args:
    store: track store of the chromosome.
    codons: counts that `codon_counts` returns.
    left: rows of the gene table, of the genes that come first on the forward strand.
    right: rows of those that follow.
    gap_bp: gap between the two, negative where they overlap.
  """
  genes, near = store.genes, neighbourhood(store)
  forward = genes.strand[left] > 0
  before = near.place[left] - 1  # -1 is the last gene: on a linear contig it is linked to none
  after = near.place[right]
  upstream, downstream = np.where(forward, before, after), np.where(forward, after, before)
  first, second = np.where(forward, left, right), np.where(forward, right, left)
  gap = gap_bp.astype(np.float64)
  length = np.log(np.maximum(genes.end - genes.start, 1))
  use = _frequencies(codons)
  coding = is_protein_coding(genes)
  return np.column_stack(
    [
      np.clip(gap, -50, 0),
      np.log1p(np.clip(gap, 0, _LONGEST_GAP_BP)),
      np.clip(gap, -50, 500),
      gap < -8,
      (gap >= -8) & (gap < 0),
      *(gap > limit for limit in (30, 60, 100, 200)),
      *_neighbour(near, upstream),
      *_neighbour(near, downstream),
      length[first],
      length[second],
      np.minimum(length[first], length[second]),
      coding[left] & coding[right],
      promoters(store, second, gap),
      terminators(store, first, gap),
      np.abs(use[left] - use[right]).sum(axis=1),
      _correlation(use[left], use[right]),
    ]
  ).astype(np.float64)


def _neighbour(near: Neighbourhood, place: Int64[np.ndarray, "p"]) -> list[np.ndarray]:
  """Describes the gap after the gene at a place."""
  gap = near.gap_bp[place]
  steps = [gap > limit for limit in (50, 100, 200)]
  return [np.log1p(np.clip(gap, 0, _LONGEST_GAP_BP)), *steps, near.linked[place]]


def promoters(
  store: TrackStore, rows: Int64[np.ndarray, "p"], gap_bp: Float64[np.ndarray, "p"]
) -> Float64[np.ndarray, "p 3"]:
  """Scores the best promoter before genes, in bits.

  Returns:
    The best in `UPSTREAM_BP`, in the last `NEAR_BP`, and in the gap before the gene.
  """
  boundary = _ends(store, rows)[0]
  codes = bases_at(store, boundary, store.genes.strand[rows], np.arange(-UPSTREAM_BP, 0))
  boxes = []
  for consensus, shares in BOXES:
    share = np.array(shares)[:, None]
    hit = np.array([list("ACGT")]) == np.array(list(consensus))[:, None]
    bits = np.log2(np.where(hit, share, (1 - share) / 3) / 0.25)
    weights = np.concatenate([bits, np.zeros((len(consensus), 1))], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(codes, len(consensus), axis=1)
    boxes.append(sum(weights[k][windows[..., k]] for k in range(len(consensus))))
  size = len(BOXES[0][0])
  n = UPSTREAM_BP - 2 * size - max(SPACERS_BP) + 1  # places of the first box
  score = functools.reduce(
    np.maximum,
    [boxes[0][:, :n] + boxes[1][:, size + d : size + d + n] - abs(d - 17) for d in SPACERS_BP],
  )
  at = np.arange(n) - UPSTREAM_BP  # of the first base, counted from the gene
  limits = np.column_stack([np.full((len(rows), 2), (UPSTREAM_BP, NEAR_BP)), gap_bp])
  inside = at[None, None, :] >= -limits[:, :, None]
  return np.where(inside, score[:, None, :], _NONE).max(axis=2, initial=_NONE)


def terminators(
  store: TrackStore, rows: Int64[np.ndarray, "p"], gap_bp: Float64[np.ndarray, "p"]
) -> Float64[np.ndarray, "p"]:
  """Scores the best terminator in the gap after genes: half the bonds of its stem, and the T after.

  Every mismatch in the stem costs two pairs of A and T.
  """
  boundary = _ends(store, rows)[1]
  flank = 2 * LONGEST_STEM
  width = DOWNSTREAM_BP + LOOPS_BP[-1] + LONGEST_STEM + TAIL_BP
  codes = bases_at(store, boundary, store.genes.strand[rows], np.arange(-flank, width))
  thymines = np.cumsum(np.pad(codes == 3, ((0, 0), (1, 0))), axis=1)
  loop_at = np.arange(DOWNSTREAM_BP)  # first base of the loop, counted from the gene
  loop = loop_at + flank
  best = np.full((len(rows), DOWNSTREAM_BP), _NONE)
  for loop_bp in LOOPS_BP:
    bonds = np.zeros_like(best)
    for k in range(1, LONGEST_STEM + 1):
      pair = _BONDS[codes[:, loop - k], codes[:, loop + loop_bp + k - 1]]
      bonds += np.where(pair > 0, pair, -4)
      if k >= STEM:
        end = loop + loop_bp + k
        tail = thymines[:, end + TAIL_BP] - thymines[:, end]
        score = bonds / 2 + 1.5 * (tail - LEAST_T)
        best = np.maximum(best, np.where(tail >= LEAST_T, score, _NONE))
  inside = (loop_at[None] >= STEM) & (loop_at[None] < gap_bp[:, None] - STEM)
  return np.where(inside, best, _NONE).max(axis=1, initial=_NONE)


def bases_at(
  store: TrackStore,
  boundary: Int64[np.ndarray, "p"],
  strand: np.ndarray,
  steps: Int64[np.ndarray, "S"],
) -> UInt8[np.ndarray, "p S"]:
  """Reads bases around boundaries in the direction of transcription, 4 beyond a linear contig.

  Args:
    store: track store of the chromosome.
    boundary: position between two bases; step 0 is the first base past it, as a strand is read.
    strand: +1, or -1 for the complement.
    steps: numbers of the bases to read, from the boundary on.
  """
  strand = strand.astype(np.int64)[:, None]
  at = boundary[:, None] + strand * steps[None] - (strand < 0)
  codes = np.asarray(store.sequence)[at % store.length_bp]
  codes = np.where((strand < 0) & (codes < UNKNOWN), 3 - codes, codes)
  if not store.circular:
    codes = np.where((at < 0) | (at >= store.length_bp), UNKNOWN, codes)
  return codes.astype(np.uint8)


def _ends(
  store: TrackStore, rows: Int64[np.ndarray, "p"]
) -> tuple[Int64[np.ndarray, "p"], Int64[np.ndarray, "p"]]:
  """Returns the boundaries at the 5' and at the 3' ends of genes."""
  start, end = store.genes.start[rows], store.genes.end[rows]
  forward = store.genes.strand[rows] > 0
  return np.where(forward, start, end), np.where(forward, end, start)


def _frequencies(counts: Float64[np.ndarray, "G C"]) -> Float64[np.ndarray, "G C"]:
  """Divides rows by their sums; rows of zeros stay."""
  return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _correlation(
  a: Float64[np.ndarray, "p C"], b: Float64[np.ndarray, "p C"]
) -> Float64[np.ndarray, "p"]:
  """Returns Pearson's correlation of rows; 0 where one is constant."""
  a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
  norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
  return np.divide((a * b).sum(axis=1), norm, out=np.zeros(len(a)), where=norm > 0)
