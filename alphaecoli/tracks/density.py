"""Gene density of windows that start anywhere, and piecewise constant tracks."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64

from alphaecoli.genomics.intervals import StartEnd, merge, split_at_origin
from alphaecoli.schema import BIN_BP


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
