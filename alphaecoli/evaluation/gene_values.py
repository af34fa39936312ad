"""From bases to genes and to pairs of neighbouring genes, within one split."""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy import special

from alphaecoli.evaluation.split_arrays import Assembly, Layout
from alphaecoli.genomics.gene_features import (
  ContigGenes,
  ExpressionFeatures,
  codon_counts,
  expression_features,
)
from alphaecoli.genomics.gene_models import ExpressionModel, pair_features
from alphaecoli.genomics.intervals import neighbours
from alphaecoli.tracks.gene_targets import is_labelled
from alphaecoli.tracks.store import TrackStore

Columns = dict[str, np.ndarray]


class GenomeGenes:
  """All genes of a store's contigs with their bases, for features; rows are those of `all_genes`.

  Attributes:
    contigs: genes of each contig.
    codons: codon counts of each contig's genes.
  """

  def __init__(self, store: TrackStore):
    self.contigs = [contig_genes(own) for own in store.replicons]
    self.codons = [codon_counts(contig) for contig in self.contigs]

  def expression_features(self, mate_gap_bp: float) -> Float64[np.ndarray, "G F"]:
    """Returns the features of every gene, with those of operon mates up to a gap."""
    types = np.unique(np.concatenate([contig.type for contig in self.contigs])).tolist()
    each = zip(self.contigs, self.codons, strict=True)
    return np.concatenate([expression_features(*own, mate_gap_bp, types) for own in each])

  @functools.cached_property
  def _features(self) -> list[ExpressionFeatures]:
    """Prepares the features of expression models, of each contig."""
    return [ExpressionFeatures(*own) for own in zip(self.contigs, self.codons, strict=True)]

  def model_features(self, mate_gap_bp: float) -> Float64[np.ndarray, "G F"]:
    """Returns the features of an `ExpressionModel`."""
    return np.concatenate([features(mate_gap_bp) for features in self._features])

  def z(
    self, model: ExpressionModel, predicted: Float64[np.ndarray, "G T"]
  ) -> Float64[np.ndarray, "G T"]:
    """Returns the z-scores that a model gives every gene, from those that are predicted."""
    parts = np.split(predicted, np.cumsum([len(contig) for contig in self.contigs])[:-1])
    each = zip(self._features, parts, strict=True)
    return np.concatenate([model.z(*own) for own in each])

  def pair_features(
    self, genes: Mapping[str, np.ndarray], pairs: Mapping[str, np.ndarray]
  ) -> Columns:
    """Returns the features of a split's pairs, by name; columns as of `split_pairs`."""
    left, right = (genes["row"][pairs[side]] for side in ("left", "right"))
    edges = np.cumsum([0, *map(len, self.contigs)])
    found = []
    for i, (contig, codons) in enumerate(zip(self.contigs, self.codons, strict=True)):
      own = (left >= edges[i]) & (left < edges[i + 1])
      rows = left[own] - edges[i], right[own] - edges[i]
      found.append(pair_features(contig, codons, *rows, pairs["distance_bp"][own]))
    return {key: np.concatenate([part[key] for part in found]) for key in found[0]}


def contig_genes(store: TrackStore) -> ContigGenes:
  """Returns all genes of a store's chromosome with its bases, for features of genes."""
  genes = store.genes
  whole = np.array([len(parts) == 1 for parts in genes.fragments], bool)
  place = genes.start, genes.end, genes.strand.astype(np.int64)
  return ContigGenes(*place, genes.type, whole, store.sequence, store.circular)


def split_genes(layout: Layout, store: TrackStore) -> Columns:
  """Returns the genes that lie fully in a split, with their observed values.

  Returns:
    One row a gene, ordered along the split: `row`, its number in the store's `all_genes`; gene_id,
    name, locus_tag, start, end, strand, type, operon_id as there; `first` and `last`, the half-open
    split positions; `target_z` (G, T), NaN where unknown; `supported`, in an operon of several
    genes with experimental evidence; `masked`, in one that is unknown for want of it; `unlisted`,
    in no listed one, where that is unknown; of several contigs `contig`.
  """
  each = [_genes_of(*of_contig) for of_contig in zip(layout.parts, store.replicons, strict=True)]
  return _joined(each, layout, store)


def _genes_of(layout: Layout, store: TrackStore) -> Columns:
  """Returns the genes of one contig: see `split_genes`."""
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


def _joined(each: Sequence[Columns], layout: Layout, store: TrackStore) -> Columns:
  """Puts the genes of contigs one after the other, numbered and placed among all of them."""
  if len(each) == 1:
    return each[0]
  rows = itertools.accumulate((len(own.genes) for own in store.replicons), initial=0)
  bases = itertools.accumulate((part.n_bases for part in layout.parts), initial=0)
  moved = [
    columns
    | {"row": columns["row"] + row, "first": columns["first"] + n, "last": columns["last"] + n}
    | {"contig": np.full(len(columns["row"]), own.contig)}
    for columns, own, row, n in zip(each, store.replicons, rows, bases, strict=False)
  ]
  return {key: np.concatenate([columns[key] for columns in moved]) for key in moved[0]}


def gene_columns(assembly: Assembly, store: TrackStore) -> Columns:
  """Computes observed and predicted values of the genes that lie fully in the split.

  Returns:
    The columns of `split_genes`, and `predicted_z` (G, T), NaN where not predicted;
    `probability`, the mean predicted probability of its bases to lie in an operon. The bases of an
    interrupted gene are those of its fragments.
  """
  each = []
  for part, own in zip(assembly.parts, store.replicons, strict=True):
    columns = _genes_of(part.layout, own)
    fragments = (own.genes.fragments[row] for row in columns["row"])
    bases = [list(_locate(part.layout, parts).values()) for parts in fragments]
    probability = special.expit(part.predictions["operon_membership"].astype(np.float64))
    columns["predicted_z"] = _means(part.predictions["gene_expression"], bases)
    columns["probability"] = _means(probability, bases)[:, 0]
    each.append(columns)
  return _joined(each, assembly.layout, store)


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
