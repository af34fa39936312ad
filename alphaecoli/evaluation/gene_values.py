"""From bases to genes and to pairs of neighbouring genes, within one split."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy import special

from alphaecoli.evaluation.split_arrays import Assembly, Layout
from alphaecoli.genomics.intervals import neighbours
from alphaecoli.tracks.store import TrackStore

Columns = dict[str, np.ndarray]


def gene_columns(assembly: Assembly, store: TrackStore) -> Columns:
  """Computes observed and predicted values of the genes that lie fully in the split.

  Returns:
    One row a gene, ordered along the split: gene_id, name, locus_tag, start, end, strand, operon_id
    as in the store; `first` and `last`, the half-open split positions; `target_z` and `predicted_z`
    (G, T), NaN where unknown or not predicted; `probability`, the mean predicted probability of its
    bases to lie in an operon. The bases of an interrupted gene are those of its fragments.
  """
  genes, table = store.genes, store.table
  slices = _locate(assembly.layout, zip(genes.start, genes.end, strict=True))
  inside = sorted(slices, key=lambda i: (slices[i].start, slices[i].stop))
  bases = [list(_locate(assembly.layout, genes.fragments[i]).values()) for i in inside]
  columns = {
    key: np.asarray(getattr(genes, key))[inside]
    for key in ("gene_id", "name", "locus_tag", "start", "end", "strand", "operon_id")
  }
  first = np.array([slices[i].start for i in inside], np.int64)
  last = np.array([slices[i].stop for i in inside], np.int64)
  mean = np.array([t.mean for t in table.expression])
  std = np.array([t.std for t in table.expression])
  probability = special.expit(assembly.predictions["operon_membership"].astype(np.float64))
  return columns | {
    "first": first,
    "last": last,
    "target_z": (np.asarray(genes.log_tpm, np.float64)[inside] - mean) / std,
    "predicted_z": _means(assembly.predictions["gene_expression"], bases),
    "probability": _means(probability, bases)[:, 0],
  }


def pair_columns(assembly: Assembly, genes: Mapping[str, np.ndarray]) -> Columns:
  """Finds neighbouring genes on one strand, with what tells whether one operon holds both.

  Two genes are a pair when one follows the other among all genes of the split, ordered by where
  they start, when both have the same known strand and lie in the same region.

  Returns:
    One row a pair: `left` and `right`, rows of `genes`; `same_operon`; `probability`, the mean
    predicted probability over the bases between the two midpoints; `distance_bp` from the end of
    the left gene to the start of the right one, negative where they overlap.
  """
  found = neighbours(genes["first"], genes["last"], genes["strand"])
  region = _region_of(assembly.layout, genes["first"])
  within = region[found.left] == region[found.right]
  left, right, low, high, distance_bp = (column[within] for column in found)
  probability = special.expit(assembly.predictions["operon_membership"].astype(np.float64))
  operon = genes["operon_id"]
  return {
    "left": left,
    "right": right,
    "same_operon": (operon[left] == operon[right]) & (operon[left] != ""),
    "probability": _means(probability, [[slice(*ends)] for ends in zip(low, high, strict=True)])[
      :, 0
    ],
    "distance_bp": distance_bp,
  }


def _locate(layout: Layout, intervals: Iterable[tuple[int, int]]) -> dict[int, slice]:
  """Returns the split positions of those intervals that lie fully in the split, by their number."""
  found = {i: layout.locate(int(start), int(end)) for i, (start, end) in enumerate(intervals)}
  return {i: where for i, where in found.items() if where is not None}


def _means(
  values: Float[np.ndarray, "n T"], bases: Sequence[Sequence[slice]]
) -> Float64[np.ndarray, "g T"]:
  """Averages over the rows in one or several slices; NaN where one of the rows is NaN."""
  means = [
    np.concatenate([values[part] for part in parts]).mean(axis=0, dtype=np.float64)
    for parts in bases
  ]
  return np.array(means, np.float64).reshape(len(bases), values.shape[1])


def _region_of(layout: Layout, position: Int[np.ndarray, "g"]) -> Int[np.ndarray, "g"]:
  """Returns the number of the region that holds each split position."""
  return np.searchsorted(np.cumsum([e - s for s, e in layout.regions]), position, side="right")
