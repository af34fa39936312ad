"""GFF3: genes of annotations as NCBI, Ensembl, Prokka and Bakta write them; lines to write."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import PRODUCT_TYPES, Annotation, Gene, old_tags, one_line
from alphaecoli.genomics.text import open_text

COLUMNS = 9
SOURCE = "alphaecoli"  # the second column of what is written
STRANDS = {"+": 1, "-": -1, ".": 0, "?": 0}
# Characters to escape: in the first column all but these, in the last one these.
_SEQID = re.compile(r"[^a-zA-Z0-9.:^*$@!+_?|-]|^>")
_NOTE = re.compile(r"[\x00-\x1f\x7f%;=&,]")


def read_gff3(path: Path) -> Annotation:
  """Reads genes from a GFF3 file, plain or gzip.

  Features whose type ends in "gene" are taken; in files without any, CDS and RNA features. Lines
  that share an ID are one gene.

  Raises:
    DataError: missing, unreadable, not GFF3, or without a gene; names the line.
  """
  features: dict[str, list[Gene]] = {"gene": [], "product": []}
  circular: set[str] = set()
  for feature, attributes in read_features(path):
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


def read_features(path: Path) -> Iterator[tuple[Gene, dict[str, str]]]:
  """Reads every feature of a GFF3 file, whatever its type, with its attributes.

  Raises:
    DataError: missing, unreadable or not GFF3; names the line.
  """
  for number, line in _lines(path):
    yield _parse(path, number, line)


def is_feature(line: str) -> bool:
  """Returns whether a line has GFF3's nine columns, with numbers in the fourth and fifth."""
  columns = line.split("\t")
  return len(columns) == COLUMNS and columns[3].isdecimal() and columns[4].isdecimal()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
  """Yields feature lines with their numbers; a FASTA section ends the file."""
  with open_text(path, "GFF3") as file:
    for number, line in enumerate(file, start=1):
      if line.startswith(("##FASTA", ">")):
        return
      if line.strip() and not line.startswith("#"):
        yield number, line.rstrip("\r\n")


def _parse(path: Path, number: int, line: str) -> tuple[Gene, dict[str, str]]:
  """Parses a feature line and its attributes."""
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
  gene = Gene(
    id=one_line(attributes.get("ID") or locus_tag or name),
    locus_tag=one_line(locus_tag),
    name=one_line(name),
    type=kind,
    contig=unquote(contig),
    start=start,
    end=end,
    strand=STRANDS[strand],
    line=number,
    biotype=one_line(attributes.get("gene_biotype", "")),
    old_locus_tags=old_tags(attributes.get("old_locus_tag", "")),
    operon=one_line(attributes.get("operon", "")),
  )
  return gene, attributes


def _join(features: list[Gene]) -> list[Gene]:
  """Joins lines of one contig that share an ID."""
  genes: dict[tuple[str, str] | int, Gene] = {}
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
        fragments=(*first.intervals, *feature.intervals),
      )
    )
  return list(genes.values())


def gff3_header(contigs: Iterable[tuple[str, int, bool]]) -> str:
  """Returns the directives, and a region line for each circular contig.

  The region line declares the contig circular, so that features may pass its end.

  Args:
    contigs: name, length in bp and circularity of each contig.
  """
  contigs = list(contigs)
  lines = ["##gff-version 3\n"]
  lines += [f"##sequence-region {_escape(name, _SEQID)} 1 {n}\n" for name, n, _ in contigs]
  for name, length, circular in contigs:
    if circular:
      notes = {"ID": f"{name}:1..{length}", "Is_circular": "true"}
      lines.append(gff3_line(name, "region", 0, length, None, 0, notes))
  return "".join(lines)


def gff3_line(
  contig: str,
  kind: str,
  start: int,
  end: int,
  score: float | None,
  strand: int,
  attributes: Mapping[str, str],
  phase: int | None = None,
) -> str:
  """Returns a feature line, 1-based and inclusive, escaped; empty attributes are left out.

  Args:
    contig: name of the contig.
    kind: type of the feature, a term of the Sequence Ontology.
    start: first base, 0-based.
    end: base after the last one; beyond the contig's length where the feature passes the origin.
    score: score of the feature; None for none.
    strand: +1, -1 or 0.
    attributes: attributes in the order in which they are written.
    phase: bases before the first whole codon; None where the feature is no CDS.

  Source: Generic Feature Format version 3, version 1.26 of 18 August 2020.
  """
  notes = ";".join(
    f"{_escape(key, _NOTE)}={_escape(value, _NOTE)}" for key, value in attributes.items() if value
  )
  number = "." if score is None else f"{score:.4g}"
  sign = {1: "+", -1: "-", 0: "."}[strand]
  frame = "." if phase is None else str(phase)
  columns = [_escape(contig, _SEQID), SOURCE, kind, str(start + 1), str(end), number, sign, frame]
  return "\t".join([*columns, notes]) + "\n"


def _escape(text: str, special: re.Pattern[str]) -> str:
  """Percent-encodes control characters and characters with a meaning in the column."""
  return special.sub(lambda match: quote(match[0], safe=""), text)
