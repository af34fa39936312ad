"""Targets that follow from genes alone: density, gene structure, operon junctions, gene weights.

They are computed when a store first needs them, from its gene table: stores of earlier versions
have them too. Structure is kept as bits, a byte a base, in memory for the whole chromosome; what is
constant along a gene, as a piecewise constant track.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64, Shaped, UInt8

from alphaecoli.genomics.gene_features import are_coding
from alphaecoli.genomics.genes import gene_kind
from alphaecoli.genomics.intervals import StartEnd, merge, neighbours, split_at_origin
from alphaecoli.schema import BIN_BP, HEADS
from alphaecoli.tracks.gene_table import GeneTable

# Channels of gene_structure: of each strand three codon positions, then RNA genes.
CODON_POSITIONS = 3
STRAND_CHANNELS = CODON_POSITIONS + 1
JUNCTION_FLANK_BP = 30  # bases of either gene that belong to their junction


@dataclasses.dataclass(frozen=True)
class DensityIndex:
  """Sorted edges of genes, from which the density of any bin follows.

  A bin [a, b) overlaps as many intervals as start before b, less those that end at or before a.
  On a circular chromosome every edge is listed three times, one length before and after too, so
  that bins up to 2 L need no special case.

  Attributes:
    starts: sorted.
    ends: sorted.
  """

  starts: Int64[np.ndarray, "E"]
  ends: Int64[np.ndarray, "E"]

  @classmethod
  def of_genes(
    cls, genes: Iterable[Sequence[StartEnd]], length_bp: int, circular: bool
  ) -> "DensityIndex":
    """Builds the index.

    Fragments of one gene less than a bin apart are joined: every bin that reaches into the gap
    then holds a base of a fragment, and no bin counts the gene twice.

    Args:
      genes: intervals of each gene: one, or those of its fragments.
      length_bp: length of the chromosome.
      circular: whether intervals wrap around the end of the chromosome.
    """
    merged = [interval for intervals in genes for interval in merge(intervals, BIN_BP - 1)]
    edges = np.array(merged, np.int64).reshape(-1, 2)
    offsets = np.array([-length_bp, 0, length_bp] if circular else [0], np.int64)
    starts, ends = ((edges[:, i][None, :] + offsets[:, None]).ravel() for i in (0, 1))
    return cls(np.sort(starts), np.sort(ends))

  def counts(self, start: int, n_bins: int) -> Float32[np.ndarray, "N"]:
    """Counts the genes that overlap each of `n_bins` bins of 128 bp by at least one base.

    Args:
      start: first base of the first bin, 0 <= start < L; not necessarily a multiple of 128.
      n_bins: number of bins, up to L bases in all.
    """
    edges = np.arange(start, start + (n_bins + 1) * BIN_BP, BIN_BP)
    begun = np.searchsorted(self.starts, edges[1:], "left")
    over = np.searchsorted(self.ends, edges[:-1], "right")
    return (begun - over).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class PiecewiseTrack:
  """A track whose values are constant between edges; its size is that of its genes.

  Attributes:
    edges: K + 1 sorted positions from 0 to L.
    values: values of the bases edges[k] to edges[k + 1]; NaN where unknown.
  """

  edges: Int64[np.ndarray, "K1"]
  values: Float32[np.ndarray, "K T"]

  def dense(self, start: int, end: int) -> Float32[np.ndarray, "S T"]:
    """Returns the values of bases start to end, 0 <= start < end <= L."""
    # The steps that overlap the interval, each repeated as often as it has bases in it.
    first = int(np.searchsorted(self.edges, start, "right")) - 1
    last = int(np.searchsorted(self.edges, end, "left"))
    sizes = np.diff(np.clip(self.edges[first : last + 1], start, end))
    return np.repeat(self.values[first:last], sizes, axis=0)


def mean_of_genes(
  genes: Sequence[Sequence[StartEnd]],
  values: Float[np.ndarray, "G T"],
  length_bp: int,
) -> PiecewiseTrack:
  """Returns the value of the gene that covers a base; the mean where several with a value do.

  Args:
    genes: intervals of each gene: one, or those of its fragments; one may pass the origin.
    values: values of each gene, NaN where unknown.
    length_bp: length of the chromosome.

  Returns:
    A track with NaN where no gene with a value lies.
  """
  edges, total, count = _totals(genes, values, length_bp)
  mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
  return PiecewiseTrack(edges, mean.astype(np.float32))


def sum_of_genes(
  genes: Sequence[Sequence[StartEnd]],
  values: Float[np.ndarray, "G T"],
  length_bp: int,
) -> PiecewiseTrack:
  """Returns the sum over the genes that cover a base, 0 where none does. See `mean_of_genes`."""
  edges, total, _ = _totals(genes, values, length_bp)
  return PiecewiseTrack(edges, total.astype(np.float32))


def _totals(
  genes: Sequence[Sequence[StartEnd]],
  values: Float[np.ndarray, "G T"],
  length_bp: int,
) -> tuple[Int64[np.ndarray, "K1"], Float64[np.ndarray, "K T"], Int32[np.ndarray, "K T"]]:
  """Returns edges, and between them the sum and the number of the genes with a value."""
  laid = [merge(split_at_origin(intervals, length_bp)) for intervals in genes]
  # Every end of a gene is an edge, so that a gene covers whole steps of the track.
  edges = np.unique([0, length_bp, *(edge for parts in laid for part in parts for edge in part)])
  mask: Bool[np.ndarray, "G T"] = ~np.isnan(values)
  filled: Float64[np.ndarray, "G T"] = np.where(mask, values, 0).astype(np.float64)
  total = np.zeros((len(edges) - 1, values.shape[1]), np.float64)
  count = np.zeros(total.shape, np.int32)
  for gene, parts in enumerate(laid):
    for start, end in parts:
      at = slice(*np.searchsorted(edges, (start, end)))
      total[at] += filled[gene]
      count[at] += mask[gene]
  return edges.astype(np.int64), total, count


@dataclasses.dataclass(frozen=True)
class GeneTargets:
  """Targets of one chromosome.

  Attributes:
    structure: bit c of a base is channel c of gene_structure.
    structure_known: bit c says whether that channel is known: not where a pseudogene or an
      interrupted gene lies on the strand.
    junction: 1 where two neighbouring genes share an operon, 0 where they do not, per strand.
    junction_weight: 1 / length of each pair's junction, so that pairs count alike.
    expression_weight: 1 / length of each gene with a value, so that genes count alike.
  """

  structure: UInt8[np.ndarray, "L"]
  structure_known: UInt8[np.ndarray, "L"]
  junction: PiecewiseTrack
  junction_weight: PiecewiseTrack
  expression_weight: PiecewiseTrack

  def fill(
    self,
    forward: Mapping[str, np.ndarray],
    start: int,
    length_bp: int,
    reverse_order: Sequence[int] | None,
  ) -> None:
    """Writes a window's targets and weights into arrays that lie along the forward strand.

    Args:
      forward: arrays by name, of the heads' shapes without a batch axis.
      start: first base of the window, 0 <= start < length_bp.
      length_bp: length of the chromosome.
      reverse_order: source of each expression track where the window is of the other strand, so
        that channels of strands swap; None for the forward strand.
    """
    n = len(forward["gene_structure"])
    at = np.arange(start, start + n)
    swap = slice(None) if reverse_order is None else list(HEADS["gene_structure"].swap)
    for key, bits in (("", self.structure), ("_known", self.structure_known)):
      forward[f"gene_structure{key}"][...] = unpack(bits.take(at, mode="wrap"))[:, swap]
    label = wrapped(self.junction, start, n, length_bp)
    weight = wrapped(self.junction_weight, start, n, length_bp)
    label, weight = (label, weight) if reverse_order is None else (label[:, ::-1], weight[:, ::-1])
    forward["operon_junction_known"][...] = ~np.isnan(label)
    forward["operon_junction"][...] = np.nan_to_num(label)
    forward["operon_junction_weight"][...] = weight
    weight = self.weight("gene_expression", start, n, length_bp)
    order = slice(None) if reverse_order is None else list(reverse_order)
    forward["gene_expression_weight"][...] = weight[:, order]

  def weight(self, head: str, start: int, n: int, length_bp: int) -> Shaped[np.ndarray, "S T"]:
    """Returns the weights of n bases' targets from `start` on: 1 / length of their gene or pair."""
    track = self.expression_weight if head == "gene_expression" else self.junction_weight
    return wrapped(track, start % length_bp, n, length_bp)


def is_protein_coding(genes: GeneTable) -> np.ndarray:
  """Returns which genes code for one uninterrupted protein: whole codons, a known strand."""
  single = np.array([len(parts) == 1 for parts in genes.fragments], bool)
  return single & are_coding(genes.type, genes.strand, genes.end - genes.start)


def is_rna(genes: GeneTable) -> np.ndarray:
  """Returns which genes are RNA genes, such as tRNA, rRNA, ncRNA and miscRNA."""
  kind = np.array([gene_kind(kind) for kind in genes.type.tolist()], np.str_)
  return np.char.endswith(kind, "rna") & (kind != "mrna")


def junction_interval(left: StartEnd, right: StartEnd) -> StartEnd:
  """Returns the bases that tell whether two neighbours share an operon: their gap and its flanks.

  Args:
    left: interval of the gene that comes first.
    right: interval of the gene that follows.
  """
  low, high = min(left[1], right[0]), max(left[1], right[0])
  first, last = max(low - JUNCTION_FLANK_BP, left[0]), min(high + JUNCTION_FLANK_BP, right[1])
  return (first, max(last, first + 1))


def is_labelled(
  supported: Bool[np.ndarray, "G"],
  masked: Bool[np.ndarray, "G"],
  unlisted: Bool[np.ndarray, "G"],
  left: Int64[np.ndarray, "p"],
  right: Int64[np.ndarray, "p"],
) -> Bool[np.ndarray, "p"]:
  """Returns which pairs are known to share an operon, or not, where some operons are unknown.

  A pair is unknown where a gene lies in an unknown operon, unless the other one lies in a known
  one, at whose border they are; and where both lie in no listed operon, if those are unknown.

  Args:
    supported: mask of genes in an operon with experimental evidence.
    masked: mask of genes in an operon that is unknown.
    unlisted: mask of genes in no listed operon, if that makes them unknown.
    left: numbers of the genes that come first.
    right: numbers of the genes that follow.
  """
  by_evidence = supported[left] | supported[right] | ~(masked[left] | masked[right])
  return by_evidence & ~(unlisted[left] & unlisted[right])


def gene_targets(
  genes: GeneTable,
  length_bp: int,
  circular: bool,
  operons: bool,
  masks_operons: bool = False,
  masks_unlisted: bool = False,
) -> GeneTargets:
  """Computes the targets.

  Args:
    genes: gene table of the store.
    length_bp: length of the chromosome.
    circular: whether the last gene and the first are neighbours.
    operons: whether operons are known; without them no junction is.
    masks_operons: whether operons without experimental evidence are unknown.
    masks_unlisted: whether genes in no listed operon are unknown.
  """
  structure, known = _structure(genes, length_bp)
  intervals: list[list[StartEnd]] = []
  labels = np.zeros((0, 2))
  if operons:
    masked = genes.unsupported & masks_operons, genes.unlisted & masks_unlisted
    intervals, labels = _junctions(genes, length_bp, circular, *masked)
  sizes = np.array([[end - start] for ((start, end),) in intervals], np.float64).reshape(-1, 1)
  lengths = np.array([[sum(b - a for a, b in parts)] for parts in genes.fragments], np.float64)
  measured = np.where(np.isnan(genes.log_tpm), np.nan, 1 / lengths.reshape(-1, 1))
  return GeneTargets(
    structure,
    known,
    mean_of_genes(intervals, labels, length_bp),
    sum_of_genes(intervals, np.where(np.isnan(labels), np.nan, 1 / sizes), length_bp),
    sum_of_genes(genes.fragments, measured, length_bp),
  )


def _structure(
  genes: GeneTable, length_bp: int
) -> tuple[UInt8[np.ndarray, "L"], UInt8[np.ndarray, "L"]]:
  """Computes the bits of gene_structure and of where it is known."""
  bits, known = np.zeros(length_bp, np.uint8), np.full(length_bp, 0xFF, np.uint8)
  protein, rna = is_protein_coding(genes), is_rna(genes)
  for row in range(len(genes)):
    shift = 0 if genes.strand[row] > 0 else STRAND_CHANNELS
    start, end = int(genes.start[row]), int(genes.end[row])
    at = np.arange(start, end) % length_bp  # wrapped around the origin
    if not genes.strand[row]:
      known[at] = 0
    elif protein[row]:
      forward = genes.strand[row] > 0
      position = np.arange(end - start) if forward else np.arange(end - start)[::-1]
      bits[at] |= (1 << (position % CODON_POSITIONS + shift)).astype(np.uint8)
    elif rna[row]:
      bits[at] |= np.uint8(1 << (CODON_POSITIONS + shift))
    else:
      known[at] &= np.uint8(0xFF ^ (0x0F << shift))
  return bits, known


def _junctions(
  genes: GeneTable,
  length_bp: int,
  circular: bool,
  masked: Bool[np.ndarray, "G"],
  unlisted: Bool[np.ndarray, "G"],
) -> tuple[list[list[StartEnd]], Float64[np.ndarray, "J 2"]]:
  """Returns the junction of every pair of neighbours, and its label on the pair's strand."""
  order = np.lexsort((genes.end, genes.start))
  start, end = genes.start[order], genes.end[order]
  strand, operon = genes.strand[order], genes.operon_id[order]
  found = neighbours(start, end, strand.astype(np.int64), length_bp if circular else None)
  intervals: list[list[StartEnd]] = []
  labels = np.full((len(found.left), 2), np.nan)
  left, right = order[found.left], order[found.right]
  labelled = is_labelled(genes.supported, masked, unlisted, left, right)
  for row, (left, right) in enumerate(zip(found.left.tolist(), found.right.tolist(), strict=True)):
    offset = length_bp if start[right] < start[left] else 0  # only the origin lies between
    follower = int(start[right]) + offset, int(end[right]) + offset
    intervals.append([junction_interval((int(start[left]), int(end[left])), follower)])
    same = operon[left] == operon[right] and operon[left] != ""
    labels[row, 0 if strand[left] > 0 else 1] = float(same) if labelled[row] else np.nan
  return intervals, labels


def unpack(bits: UInt8[np.ndarray, "S"]) -> UInt8[np.ndarray, "S 8"]:
  """Spreads the bits of each base over eight channels, the lowest bit first."""
  return np.unpackbits(bits[:, None], axis=1, bitorder="little")


def wrapped(track: PiecewiseTrack, start: int, n: int, length_bp: int) -> np.ndarray:
  """Returns the values of n bases from `start` on, wrapped around the origin where need be."""
  first = min(n, length_bp - start)
  parts: Sequence[np.ndarray] = [track.dense(start, start + first)]
  parts = [*parts, track.dense(0, n - first)] if first < n else parts
  return parts[0] if len(parts) == 1 else np.concatenate(parts)
