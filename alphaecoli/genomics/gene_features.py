"""Features of genes and of neighbouring ones, for linear models of expression and of operons.

They use the genes and the sequence of a whole contig, and no label: neither expression nor operons.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from Bio.Data.CodonTable import unambiguous_dna_by_id
from jaxtyping import Bool, Float64, Int64, Shaped, UInt8

from alphaecoli.genomics.coding_model import words
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.sequence import UNKNOWN

CODON_BP = 3
PROTEIN = ("mrna", "cds", "protein_coding", "protein", "gene")
KINDS = ("protein", "trna", "rrna", "other")
CODONS = tuple(a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT")
_AMINO_ACID = unambiguous_dna_by_id[11].forward_table  # of each codon that is no stop
_CODES_FOR = np.array([[_AMINO_ACID.get(c) == aa for aa in sorted(set(_AMINO_ACID.values()))]
                       for c in CODONS], np.float64)  # fmt: skip
_GC = np.array([[sum(base in "GC" for base in c) / 3, c[2] in "GC"] for c in CODONS], np.float64)
UPSTREAM_BP = 250  # before the start of a gene, where its promoter is looked for
DOWNSTREAM_BP = 200  # after the end of a gene, where its terminator is looked for
NEAR_BP = 100  # a promoter that begins so close to the gene counts by itself
_FAR_BP = 600.0  # stands for the gap to a neighbour on the other strand
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


@dataclasses.dataclass(frozen=True)
class ContigGenes:
  """The genes of one contig, one row each in any order, and its bases.

  Attributes:
    start: first bases.
    end: bases after the last ones; beyond the contig's length where a gene passes the origin.
    strand: +1, -1 or 0 (unknown).
    type: such as mRNA, protein_coding or tRNA.
    whole: whether a gene is uninterrupted.
    codes: bases of the contig, as 0 to 4.
    circular: whether its end joins its start.
  """

  start: Int64[np.ndarray, "G"]
  end: Int64[np.ndarray, "G"]
  strand: Int64[np.ndarray, "G"]
  type: Shaped[np.ndarray, "G"]
  whole: Bool[np.ndarray, "G"]
  codes: UInt8[np.ndarray, "L"]
  circular: bool

  @classmethod
  def of(
    cls, genes: Sequence[Gene], codes: UInt8[np.ndarray, "L"], circular: bool
  ) -> "ContigGenes":
    """Collects the genes of an annotation; a gene's type is its gene_biotype, if it has one."""
    start, end, strand = (
      np.array([getattr(g, key) for g in genes], np.int64) for key in ("start", "end", "strand")
    )
    kinds = np.array([g.biotype or g.type for g in genes], np.str_)
    whole = np.array([len(g.intervals) == 1 for g in genes], bool)
    return cls(start, end, strand, kinds, whole, codes, circular)

  def __len__(self) -> int:
    return len(self.start)

  @property
  def length_bp(self) -> int:
    """Returns the length of the contig."""
    return len(self.codes)

  @functools.cached_property
  def coding(self) -> Bool[np.ndarray, "G"]:
    """Returns which genes code for one uninterrupted protein."""
    return self.whole & are_coding(self.type, self.strand, self.end - self.start)


def are_coding(
  kind: Shaped[np.ndarray, "G"], strand: np.ndarray, length_bp: Int64[np.ndarray, "G"]
) -> Bool[np.ndarray, "G"]:
  """Returns which genes code for a protein by their type: of whole codons, on a known strand."""
  named = np.isin(np.char.lower(kind), PROTEIN)
  return np.asarray(named & (strand != 0) & (length_bp % CODON_BP == 0))


class Neighbourhood(NamedTuple):
  """Every gene's place among all genes of the chromosome, ordered by start.

  Attributes:
    order: rows of the genes by place.
    place: of each row.
    gap_bp: by place, from the gene's end to the next gene's start; `_FAR_BP` where the next gene is
      on another or an unknown strand, or where there is none.
    linked: by place, whether the next gene is on the same, known strand.
  """

  order: Int64[np.ndarray, "G"]
  place: Int64[np.ndarray, "G"]
  gap_bp: Float64[np.ndarray, "G"]
  linked: Bool[np.ndarray, "G"]


def neighbourhood(genes: ContigGenes) -> Neighbourhood:
  """Orders the genes of a contig; on a circular one the first follows the last."""
  order = np.lexsort((genes.end, genes.start)).astype(np.int64)
  place = np.argsort(order).astype(np.int64)
  start, end, strand = (column[order] for column in (genes.start, genes.end, genes.strand))
  gap = (np.append(start[1:], start[:1] + genes.length_bp) - end).astype(np.float64)
  linked = (strand == np.append(strand[1:], strand[:1])) & (strand != 0)
  if not genes.circular or len(order) < 2:
    linked[-1:] = False
  return Neighbourhood(order, place, np.where(linked, gap, _FAR_BP), linked)


def codon_counts(genes: ContigGenes) -> Float64[np.ndarray, "G 64"]:
  """Counts the codons of every protein-coding gene; 0 for other genes."""
  counts = np.zeros((len(genes), 64))
  for row in np.flatnonzero(genes.coding)[:, None].astype(np.int64):
    steps = np.arange((genes.end - genes.start)[row[0]])
    boundary = _ends(genes, row)[0]
    codons = words(bases_at(genes, boundary, genes.strand[row], steps)[0])[::CODON_BP]
    counts[row[0]] = np.bincount(codons[codons >= 0], minlength=64)
  return counts


def expression_features(
  genes: ContigGenes,
  codons: Float64[np.ndarray, "G 64"],
  longest_gap_bp: float,
  types: Sequence[str] | None = None,
) -> Float64[np.ndarray, "G F"]:
  """Returns codon use of each gene and of its likely operon mates, with lengths and gene types.

  Likely mates are the genes of a chain on one strand in which no gap is longer than
  `longest_gap_bp`; where a gene has none, theirs is the mean over genes that have some.

  Args:
    genes: genes of the contig.
    codons: counts that `codon_counts` returns.
    longest_gap_bp: longest gap between mates.
    types: gene types with a column of their own; by default all that there are.
  """
  near = neighbourhood(genes)
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
  use = frequencies(mates)
  use[~has_mates] = use[has_mates].mean(axis=0) if has_mates.any() else 0
  kinds = [genes.type == kind for kind in (np.unique(genes.type) if types is None else types)]
  lengths = np.log(np.maximum(genes.end - genes.start, 1))
  more = (has_mates, np.log(size), np.log1p(mates.sum(axis=1)), lengths)
  return np.column_stack([frequencies(codons), use, *kinds, *more]).astype(np.float64)


class ExpressionFeatures:
  """What tells the expression of the genes of a contig, computed once for all models."""

  def __init__(self, genes: ContigGenes, codons: Float64[np.ndarray, "G 64"]):
    """Takes genes, and the counts that `codon_counts` returns."""
    self._genes = dataclasses.replace(genes, type=_kinds(genes.type))
    self._codons = codons
    self._found: dict[float, Float64[np.ndarray, "G F"]] = {}

  def __call__(self, mate_gap_bp: float) -> Float64[np.ndarray, "G F"]:
    """Returns `expression_features` with the kinds of genes `KINDS`, then what trees know besides.

    That is the share of each amino acid, of G and C in codons and at their third bases, and the
    best promoter before the gene, up to its neighbour on the same strand.
    """
    if mate_gap_bp not in self._found:
      genes, use = self._genes, frequencies(self._codons)
      near = neighbourhood(genes)
      before = np.where(genes.strand > 0, near.place - 1, near.place)
      gap = np.clip(near.gap_bp[before], 0, UPSTREAM_BP)
      bits = promoters(genes, np.arange(len(genes), dtype=np.int64), gap)
      linear = expression_features(genes, self._codons, mate_gap_bp, KINDS)
      self._found[mate_gap_bp] = np.column_stack([linear, use @ _CODES_FOR, use @ _GC, bits])
    return self._found[mate_gap_bp]


# Of the columns of `ExpressionFeatures`, those of a linear model.
LINEAR_FEATURES = 2 * len(CODONS) + len(KINDS) + 4


def _kinds(types: Shaped[np.ndarray, " G"]) -> Shaped[np.ndarray, " G"]:
  """Returns the kind of genes of any type."""
  lower = np.char.lower(types.astype(np.str_))
  found = np.full(len(types), KINDS[-1], dtype="<U8")
  found[np.isin(lower, PROTEIN)] = KINDS[0]
  for kind in KINDS[1:3]:
    found[np.char.find(lower, kind) >= 0] = kind
  return found


def promoters(
  genes: ContigGenes, rows: Int64[np.ndarray, "p"], gap_bp: Float64[np.ndarray, "p"]
) -> Float64[np.ndarray, "p 3"]:
  """Scores the best promoter before genes, in bits.

  Returns:
    The best in `UPSTREAM_BP`, in the last `NEAR_BP`, and in the gap before the gene.
  """
  boundary = _ends(genes, rows)[0]
  codes = bases_at(genes, boundary, genes.strand[rows], np.arange(-UPSTREAM_BP, 0))
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
  genes: ContigGenes, rows: Int64[np.ndarray, "p"], gap_bp: Float64[np.ndarray, "p"]
) -> Float64[np.ndarray, "p"]:
  """Scores the best terminator in the gap after genes: half the bonds of its stem, and the T after.

  Every mismatch in the stem costs two pairs of A and T.
  """
  boundary = _ends(genes, rows)[1]
  flank = 2 * LONGEST_STEM
  width = DOWNSTREAM_BP + LOOPS_BP[-1] + LONGEST_STEM + TAIL_BP
  codes = bases_at(genes, boundary, genes.strand[rows], np.arange(-flank, width))
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
  genes: ContigGenes,
  boundary: Int64[np.ndarray, "p"],
  strand: np.ndarray,
  steps: Int64[np.ndarray, "S"],
) -> UInt8[np.ndarray, "p S"]:
  """Reads bases around boundaries in the direction of transcription, 4 beyond a linear contig.

  Args:
    genes: genes of the contig.
    boundary: position between two bases; step 0 is the first base past it, as a strand is read.
    strand: +1, or -1 for the complement.
    steps: numbers of the bases to read, from the boundary on.
  """
  strand = strand.astype(np.int64)[:, None]
  at = boundary[:, None] + strand * steps[None] - (strand < 0)
  codes = np.asarray(genes.codes)[at % genes.length_bp]
  codes = np.where((strand < 0) & (codes < UNKNOWN), 3 - codes, codes)
  if not genes.circular:
    codes = np.where((at < 0) | (at >= genes.length_bp), UNKNOWN, codes)
  return codes.astype(np.uint8)


def _ends(
  genes: ContigGenes, rows: Int64[np.ndarray, "p"]
) -> tuple[Int64[np.ndarray, "p"], Int64[np.ndarray, "p"]]:
  """Returns the boundaries at the 5' and at the 3' ends of genes."""
  start, end = genes.start[rows], genes.end[rows]
  forward = genes.strand[rows] > 0
  return np.where(forward, start, end), np.where(forward, end, start)


def frequencies(counts: Float64[np.ndarray, "G C"]) -> Float64[np.ndarray, "G C"]:
  """Divides rows by their sums; rows of zeros stay."""
  return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
