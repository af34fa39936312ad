"""Genes from a GFF3 annotation, as NCBI, Ensembl, Prokka and Bakta write it."""

import dataclasses
import gzip
import itertools
import logging
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from jaxtyping import Int

from alphaecoli.errors import DataError

LOGGER = logging.getLogger(__name__)

COLUMNS = 9
STRANDS = {"+": 1, "-": -1, ".": 0, "?": 0}
# Used only in files without gene features.
PRODUCT_TYPES = ("CDS", "tRNA", "rRNA", "tmRNA", "ncRNA", "misc_RNA")


@dataclasses.dataclass(frozen=True, slots=True)
class AnnotatedGene:
  """A gene of the annotation, 0-based and half-open on its contig; end > length wraps the origin.

  Attributes:
    id: the ID attribute, else the locus tag, else the name.
    segments: its stretches, in the order of the file; more than one for interrupted genes.
    line: where it was read, from 1.
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


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
  """What a GFF3 file says.

  Attributes:
    genes: in the order of the file.
    circular: contigs declared as rings (Is_circular=true).
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


def read_gff3(path: Path) -> Annotation:
  """Reads genes from a GFF3 file, plain or gzip.

  Features whose type ends in "gene" are taken; in files without any, CDS and RNA features. Lines
  that share an ID are one gene.

  Raises:
    DataError: missing, unreadable, not GFF3, or without a gene; names the line.
  """
  features: dict[str, list[AnnotatedGene]] = {"gene": [], "product": []}
  circular: set[str] = set()
  for number, line in _lines(path):
    feature, attributes = _parse(path, number, line)
    if attributes.get("Is_circular", "").lower() == "true":
      circular.add(feature.contig)
    if feature.type.lower().endswith("gene"):
      features["gene"].append(feature)
    elif feature.type in PRODUCT_TYPES:
      features["product"].append(feature)
  genes = _join(features["gene"] or features["product"])
  if not genes:
    raise DataError(f"{path}: no gene, CDS or RNA feature; expected a GFF3 annotation")
  return Annotation(tuple(genes), frozenset(circular), path)


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
    if gene.contig not in lengths:
      skipped[f"on {gene.contig}, which is not in the FASTA"] += 1
    elif gene.start >= lengths[gene.contig] or gene.end - gene.start > lengths[gene.contig]:
      skipped[f"outside {gene.contig}"] += 1
    elif gene.end > lengths[gene.contig] and not circular[gene.contig]:
      skipped[f"past the end of {gene.contig}, which is linear"] += 1
    else:
      length = lengths[gene.contig]
      whole = _across_origin(gene, length) if circular[gene.contig] else gene
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


def _across_origin(gene: AnnotatedGene, length_bp: int) -> AnnotatedGene:
  """A gene written in two parts, one at each end of a ring, as one that passes the origin."""
  if gene.start != 0 or gene.end != length_bp or len(gene.segments) == 1:
    return gene
  segments = sorted(gene.segments)
  gaps = [b[0] - a[1] for a, b in itertools.pairwise(segments)]
  cut = gaps.index(max(gaps)) + 1
  after = tuple((start + length_bp, end + length_bp) for start, end in segments[:cut])
  parts = (*segments[cut:], *after)
  return dataclasses.replace(gene, start=parts[0][0], end=parts[-1][1], segments=parts)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
  """Feature lines with their numbers; a FASTA section ends the file."""
  try:
    with open(path, "rb") as raw:
      packed = raw.read(2) == b"\x1f\x8b"
    with (
      gzip.open(path, "rt", encoding="utf-8") if packed else open(path, encoding="utf-8") as file
    ):
      for number, line in enumerate(file, start=1):
        if line.startswith(("##FASTA", ">")):
          return
        if line.strip() and not line.startswith("#"):
          yield number, line.rstrip("\r\n")
  except UnicodeDecodeError as error:
    raise DataError(f"{path}: not a text file ({error.reason}); expected GFF3") from error
  except (EOFError, zlib.error) as error:
    raise DataError(f"{path}: the gzip file is truncated or corrupt: {error}") from error
  except OSError as error:
    raise DataError(f"{path}: can not be read: {error.strerror or error}") from error


def _parse(path: Path, number: int, line: str) -> tuple[AnnotatedGene, dict[str, str]]:
  """One feature line and its attributes."""
  where = f"{path}, line {number}"
  columns = line.split("\t")
  if len(columns) != COLUMNS:
    raise DataError(f"{where}: {len(columns)} columns; GFF3 has {COLUMNS}, separated by tabs")
  contig, _, kind, first, last, _, strand, _, notes = columns
  if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
    raise DataError(f"{where}: positions {first} to {last}; expected 1 <= start <= end")
  if strand not in STRANDS:
    raise DataError(f"{where}: strand {strand!r}; expected + - . or ?")
  attributes = {}
  for note in notes.split(";"):
    key, equals, value = note.strip().partition("=")
    if equals:
      attributes[unquote(key)] = unquote(value)
  locus_tag = attributes.get("locus_tag", "")
  name = attributes.get("Name") or attributes.get("gene", "")
  start, end = int(first) - 1, int(last)
  gene = AnnotatedGene(
    id=_one_line(attributes.get("ID") or locus_tag or name),
    locus_tag=_one_line(locus_tag),
    name=_one_line(name),
    type=kind,
    contig=unquote(contig),
    start=start,
    end=end,
    strand=STRANDS[strand],
    segments=((start, end),),
    line=number,
  )
  return gene, attributes


def _one_line(text: str) -> str:
  """Text without the tabs and line ends that escapes may hide."""
  return " ".join(text.split())


def _join(features: list[AnnotatedGene]) -> list[AnnotatedGene]:
  """Joins lines of one contig that share an ID."""
  genes: dict[tuple[str, str] | int, AnnotatedGene] = {}
  for feature in features:
    key = (feature.contig, feature.id) if feature.id else feature.line
    first = genes.get(key)
    genes[key] = (
      feature
      if first is None
      else dataclasses.replace(
        first,
        start=min(first.start, feature.start),
        end=max(first.end, feature.end),
        segments=(*first.segments, *feature.segments),
      )
    )
  return list(genes.values())
