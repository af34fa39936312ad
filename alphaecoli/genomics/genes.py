"""Genes of an annotation, whichever format they were read from, and where they lie on contigs."""

import dataclasses
import functools
import itertools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from alphaecoli.errors import DataError
from alphaecoli.genomics.intervals import StartEnd

LOGGER = logging.getLogger(__name__)

# Features that stand in for genes in files without gene features.
PRODUCT_TYPES = ("CDS", "tRNA", "rRNA", "tmRNA", "ncRNA", "misc_RNA")


@dataclasses.dataclass(frozen=True, slots=True)
class AnnotatedGene:
  """A gene of the annotation, 0-based and half-open on its contig; end > length wraps the origin.

  Attributes:
    id: the ID attribute, else the locus tag, else the name.
    segments: its stretches, in the order of the file; more than one for interrupted genes.
    line: where it was read, from 1; in GenBank files the number of the feature in its record.
    biotype: NCBI's gene_biotype, "" where there is none.
    old_locus_tags: those of earlier annotations.
    operon: the name of its operon, "" where none is given.
  """

  id: str
  locus_tag: str
  name: str
  type: str
  contig: str
  start: int
  end: int
  strand: int
  segments: tuple[tuple[int, int], ...]
  line: int
  biotype: str = ""
  old_locus_tags: tuple[str, ...] = ()
  operon: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
  """What an annotation file says.

  Attributes:
    genes: in the order of the file.
    circular: contigs declared as rings.
    path: the file.
  """

  genes: tuple[AnnotatedGene, ...]
  circular: frozenset[str]
  path: Path


@dataclasses.dataclass(frozen=True, slots=True)
class PlacedGene:
  """A gene that fits its contig."""

  gene: AnnotatedGene

  def bases(self, length_bp: int) -> Int[np.ndarray, " n"]:
    """Positions of its bases on a contig of this length, wrapped, each once."""
    spans = [np.arange(start, end) for start, end in self.gene.segments]
    return np.unique(np.concatenate(spans) % length_bp)


def one_line(text: str) -> str:
  """Text without the tabs and line ends that escapes and quotes may hide."""
  return " ".join(text.split())


def old_tags(text: str) -> tuple[str, ...]:
  """The locus tags of an old_locus_tag attribute, with commas or spaces between."""
  return tuple(text.replace(",", " ").split())


def place_genes(
  annotation: Annotation, lengths: Mapping[str, int], circular: Mapping[str, bool]
) -> dict[str, list[PlacedGene]]:
  """Sorts genes to the contigs of the FASTA; those that do not fit are counted and skipped.

  Args:
    annotation: the genes.
    lengths: length of each contig, in bp.
    circular: which contigs are rings; on the others a gene may not pass the end.

  Raises:
    DataError: no gene lies on any contig.
  """
  placed: dict[str, list[PlacedGene]] = {name: [] for name in lengths}
  skipped: Counter[str] = Counter()
  for gene in annotation.genes:
    reason = misfit(gene, lengths, circular)
    if reason is not None:
      skipped[reason] += 1
    else:
      length = lengths[gene.contig]
      whole = across_origin(gene, length) if circular[gene.contig] else gene
      placed[gene.contig].append(PlacedGene(whole))
  for reason, count in skipped.items():
    LOGGER.warning("%s: %d genes skipped: %s", annotation.path, count, reason)
  if not any(placed.values()):
    theirs = ", ".join(list(dict.fromkeys(g.contig for g in annotation.genes))[:3])
    ours = ", ".join(list(lengths)[:3])
    raise DataError(
      f"{annotation.path}: no gene lies on a contig of the FASTA; the annotation names {theirs}, "
      f"the FASTA {ours}"
    )
  return placed


def misfit(
  gene: AnnotatedGene, lengths: Mapping[str, int], circular: Mapping[str, bool]
) -> str | None:
  """Why a gene does not fit the contigs of the genome; None where it does."""
  if gene.contig not in lengths:
    return f"on {gene.contig}, which is not in the FASTA"
  if gene.start >= lengths[gene.contig] or gene.end - gene.start > lengths[gene.contig]:
    return f"outside {gene.contig}"
  if gene.end > lengths[gene.contig] and not circular[gene.contig]:
    return f"past the end of {gene.contig}, which is linear"
  return None


def across_origin(gene: AnnotatedGene, length_bp: int) -> AnnotatedGene:
  """A gene of a ring in several parts, as the shortest stretch of the ring that holds them all.

  That stretch passes the origin where a gap between two parts is wider than the way from the last
  part over the origin to the first.
  """
  if gene.end > length_bp or len(gene.segments) == 1:
    return gene
  segments = sorted(gene.segments)
  ends = list(itertools.accumulate((end for _, end in segments), max))
  gaps = [b[0] - a for a, b in zip(ends[:-1], segments[1:], strict=True)]
  if max(gaps) <= segments[0][0] + length_bp - ends[-1]:
    return gene
  cut = gaps.index(max(gaps)) + 1
  after = tuple((start + length_bp, end + length_bp) for start, end in segments[:cut])
  parts = (*segments[cut:], *after)
  last = max(end for _, end in parts)
  return dataclasses.replace(gene, start=parts[0][0], end=last, segments=parts)


class ContigFeatures:
  """What is known of one contig beside its sequence.

  Attributes:
    genes: genes of the contig.
    operons: intervals of its operons, 0-based and half-open; None where none were given.
  """

  def __init__(self, genes: Sequence[PlacedGene] = (), operons: Sequence[StartEnd] | None = None):
    self.genes, self.operons = genes, operons

  @functools.cached_property
  def gene_bounds(self) -> Int[np.ndarray, "n 2"]:
    """Start and end of each gene."""
    return _as_array([(placed.gene.start, placed.gene.end) for placed in self.genes])

  @functools.cached_property
  def operon_bounds(self) -> Int[np.ndarray, "n 2"]:
    """Start and end of each operon."""
    return _as_array(self.operons or ())


def _as_array(bounds: Sequence[StartEnd]) -> Int[np.ndarray, "n 2"]:
  """Makes rows of starts and ends."""
  return np.array(list(bounds), np.int64).reshape(-1, 2)
