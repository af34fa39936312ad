"""From bases to genes and to pairs of neighbouring genes, within one split."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy import special

from alphaecoli.evaluation.split_arrays import Assembly, Layout
from alphaecoli.genomics.gene_features import ContigGenes
from alphaecoli.genomics.intervals import neighbours
from alphaecoli.tracks.gene_targets import is_labelled
from alphaecoli.tracks.store import TrackStore

Columns = dict[str, np.ndarray]


def contig_genes(store: TrackStore) -> ContigGenes:
  """Returns all genes of a store's chromosome with its bases, for features of genes."""
  genes = store.genes
  whole = np.array([len(parts) == 1 for parts in genes.fragments], bool)
  place = genes.start, genes.end, genes.strand.astype(np.int64)
  return ContigGenes(*place, genes.type, whole, store.sequence, store.circular)


def split_genes(layout: Layout, store: TrackStore) -> Columns:
  """Returns the genes that lie fully in a split, with their observed values.

  Returns:
    One row a gene, ordered along the split: `row`, its number in the store's table; gene_id, name,
    locus_tag, start, end, strand, type, operon_id as there; `first` and `last`, the half-open split
    positions; `target_z` (G, T), NaN where unknown; `supported`, in an operon of several genes with
    experimental evidence; `masked`, in one that is unknown for want of it; `unlisted`, in no
    listed one, where that is unknown.
  """
  genes, table = store.genes, store.table
  found = _locate(layout, zip(genes.start, genes.end, strict=True))
  inside = sorted(found, key=lambda i: (found[i].start, found[i].stop))
  columns = {
    key: np.asarray(getattr(genes, key))[inside]
    for key in ("gene_id", "name", "locus_tag", "start", "end", "strand", "type", "operon_id")
  }
  mean = np.array([t.mean for t in table.expression])
  std = np.array([t.std for t in table.expression])
  return columns | {
    "row": np.array(inside, np.int64),
    "first": np.array([found[i].start for i in inside], np.int64),
    "last": np.array([found[i].stop for i in inside], np.int64),
    "supported": genes.supported[inside],
    "masked": genes.unsupported[inside] & store.masks_operons,
    "unlisted": genes.unlisted[inside] & store.masks_unlisted,
    "target_z": (np.asarray(genes.log_tpm, np.float64)[inside] - mean) / std,
  }


def gene_columns(assembly: Assembly, store: TrackStore) -> Columns:
  """Computes observed and predicted values of the genes that lie fully in the split.

  Returns:
    The columns of `split_genes`, and `predicted_z` (G, T), NaN where not predicted;
    `probability`, the mean predicted probability of its bases to lie in an operon. The bases of an
    interrupted gene are those of its fragments.
  """
  columns = split_genes(assembly.layout, store)
  fragments = (store.genes.fragments[row] for row in columns["row"])
  bases = [list(_locate(assembly.layout, parts).values()) for parts in fragments]
  probability = special.expit(assembly.predictions["operon_membership"].astype(np.float64))
  return columns | {
    "predicted_z": _means(assembly.predictions["gene_expression"], bases),
    "probability": _means(probability, bases)[:, 0],
  }


def split_pairs(layout: Layout, genes: Mapping[str, np.ndarray]) -> Columns:
  """Returns neighbouring genes on one strand.

  Two genes are a pair when one follows the other among all genes of the split, ordered by where
  they start, when both have the same known strand and lie in the same region. Pairs of which the
  store does not know whether they share an operon are left out.

  Args:
    layout: regions of the split.
    genes: columns of `split_genes`.

  Returns:
    One row a pair: `left` and `right`, rows of `genes`; `same_operon`; `experimental`, whether one
    of the two lies in an operon with experimental evidence; `low` and `high`, the half-open split
    positions from one midpoint to the other; `distance_bp` from the end of the left gene to the
    start of the right one, negative where they overlap.
  """
  found = neighbours(genes["first"], genes["last"], genes["strand"])
  region = _region_of(layout, genes["first"])
  supported, masked = genes["supported"], genes["masked"]
  kept = is_labelled(supported, masked, genes["unlisted"], found.left, found.right)
  kept &= region[found.left] == region[found.right]
  columns = {key: column[kept] for key, column in found._asdict().items()}
  left, right = columns["left"], columns["right"]
  operon = genes["operon_id"]
  return columns | {
    "same_operon": (operon[left] == operon[right]) & (operon[left] != ""),
    "experimental": supported[left] | supported[right],
  }


def pair_subsets(pairs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the rows of pairs that each metric of them counts, by the metric's name.

  Pairs beside operons with experimental evidence have a metric of their own where there are some.
  """
  rows = {"pairs_auroc": np.arange(len(pairs["same_operon"]))}
  if pairs["experimental"].any():
    rows["experimental_pairs_auroc"] = np.flatnonzero(pairs["experimental"])
  return rows


def pair_columns(assembly: Assembly, genes: Mapping[str, np.ndarray]) -> Columns:
  """Returns neighbouring genes on one strand, with the probability that they share an operon.

  Returns:
    The columns of `split_pairs`, and `probability`, the mean predicted probability over the bases
    between the two midpoints.
  """
  pairs = split_pairs(assembly.layout, genes)
  probability = special.expit(assembly.predictions["operon_membership"].astype(np.float64))
  between = [[slice(*ends)] for ends in zip(pairs["low"], pairs["high"], strict=True)]
  return pairs | {"probability": _means(probability, between)[:, 0]}


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
