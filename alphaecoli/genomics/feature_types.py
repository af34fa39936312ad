"""Genes from the features of an annotation, whatever its format: which features are genes.

Formats give a gene as a feature of its own, as its product (CDS or RNA), or as both.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from alphaecoli.genomics.genes import ContigFeatures, Gene, gene_kind, place_id

LOGGER = logging.getLogger(__name__)
_PRECURSORS = ("mrna", "precursor_rna")  # of a CDS, or of another RNA


def feature_kind(kind: str) -> str:
  """Tells features by their type: gene, product (CDS and RNAs) or ""."""
  kind = kind.lower()
  if kind.endswith("gene"):
    return "gene"
  is_rna = kind.endswith("rna") and kind not in _PRECURSORS
  return "product" if is_rna or kind == "cds" else ""


def gene_type(kind: str, notes: Mapping[str, str]) -> str:
  """Returns the type of a feature; pseudogene where it stands for a gene and its notes say so.

  Args:
    kind: type as it is written.
    notes: attributes of GFF3 or qualifiers of GenBank, where pseudo has no value.
  """
  pseudo = "pseudogene" in notes or notes.get("pseudo", "false").lower() != "false"
  return "pseudogene" if pseudo and feature_kind(kind) else kind


def with_products(
  genes: Sequence[Gene],
  products: Iterable[Gene],
  parts: Mapping[str, Iterable[str]] | None = None,
) -> list[Gene]:
  """Adds to gene features the CDS and RNA features for which none of them stands, by line.

  A gene stands for products of its locus tag, for those with its bounds, and for those within it
  that name no other locus tag or, where one of the two has none, no other gene. One without a
  biotype that has products, and none is a CDS, has their type: GenBank says by it what a gene is.

  Args:
    genes: gene features.
    products: CDS and RNA features.
    parts: types of further products, by the id of the gene that a file says they are of.
  """
  by_tag: dict[tuple[str, str], list[int]] = {}
  by_contig: dict[str, list[int]] = {}
  for row, gene in enumerate(genes):
    by_contig.setdefault(gene.contig, []).append(row)
    if gene.locus_tag:
      by_tag.setdefault((gene.contig, gene.locus_tag), []).append(row)
  around = {
    contig: ContigFeatures([genes[row] for row in rows]) for contig, rows in by_contig.items()
  }
  kinds = [list((parts or {}).get(gene.id, ())) for gene in genes]
  added = []
  for product in products:
    own = by_tag.get((product.contig, product.locus_tag), [])
    near = around.get(product.contig)
    stands = bool(own)
    if near is not None and not own:
      start, end = near.gene_bounds.T
      rows = np.flatnonzero((start <= product.start) & (end >= product.end)).tolist()
      rows = [row for row in rows if _stands_for(near.genes[row], product)]
      stands = bool(rows)
      own = [by_contig[product.contig][row] for row in rows]
      own = [row for row in own if _bounds(genes[row]) == _bounds(product)]
    for row in own:
      kinds[row].append(product.type)
    if not stands:
      added.append(product)
  typed = [_typed(gene, found) for gene, found in zip(genes, kinds, strict=True)]
  return sorted([*typed, *added], key=lambda gene: gene.line)


def _typed(gene: Gene, products: Sequence[str]) -> Gene:
  """Gives the type of its products, RNAs or pseudogenes, to a gene that says nothing of its own."""
  says = bool(gene.biotype) or gene_kind(gene.type) != "gene"
  if says or not products or any(kind.lower() == "cds" for kind in products):
    return gene
  return dataclasses.replace(gene, type=products[0])


def _bounds(gene: Gene) -> tuple[int, int, int]:
  """Returns what a gene and its product have in common."""
  return gene.start, gene.end, gene.strand


def _stands_for(gene: Gene, product: Gene) -> bool:
  """Returns whether a product within a gene, with no or another locus tag, is the gene's."""
  if gene.strand * product.strand < 0:
    return False
  if (gene.start, gene.end) == (product.start, product.end):
    return True
  if gene.locus_tag and product.locus_tag:
    return False
  return not (gene.name and product.name) or gene.name.lower() == product.name.lower()


def warn_of_nameless(genes: Sequence[Gene], path: Path) -> None:
  """Warns of genes that no table can mean, since only their place names them."""
  nameless = sum(
    not gene.locus_tag and not gene.name and gene.id == place_id(gene) for gene in genes
  )
  if nameless:
    text = "%s: %d of %d genes have neither ID, locus tag nor symbol; they are named by their place"
    LOGGER.warning(text, path, nameless, len(genes))


def old_tags(text: str) -> tuple[str, ...]:
  """Returns the locus tags of an old_locus_tag attribute, with commas or spaces between."""
  return tuple(text.replace(",", " ").split())
