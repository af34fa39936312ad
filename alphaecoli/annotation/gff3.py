"""Genes from a GFF3 annotation, as NCBI, Ensembl, Prokka and Bakta write it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from alphaecoli.annotation.files import open_text
from alphaecoli.annotation.records import PRODUCT_TYPES, AnnotatedGene, Annotation, one_line
from alphaecoli.errors import DataError

COLUMNS = 9
STRANDS = {"+": 1, "-": -1, ".": 0, "?": 0}


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


def _lines(path: Path) -> Iterator[tuple[int, str]]:
  """Feature lines with their numbers; a FASTA section ends the file."""
  with open_text(path, "GFF3") as file:
    for number, line in enumerate(file, start=1):
      if line.startswith(("##FASTA", ">")):
        return
      if line.strip() and not line.startswith("#"):
        yield number, line.rstrip("\r\n")


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
    id=one_line(attributes.get("ID") or locus_tag or name),
    locus_tag=one_line(locus_tag),
    name=one_line(name),
    type=kind,
    contig=unquote(contig),
    start=start,
    end=end,
    strand=STRANDS[strand],
    segments=((start, end),),
    line=number,
  )
  return gene, attributes


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
