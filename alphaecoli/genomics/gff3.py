"""GFF3 and GTF as NCBI, Ensembl, Prokka, Bakta and others write them; GFF3 lines to write."""

import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from alphaecoli.errors import DataError
from alphaecoli.genomics.feature_types import (
  feature_kind,
  gene_type,
  old_tags,
  warn_of_nameless,
  with_products,
)
from alphaecoli.genomics.genes import Annotation, Gene, place_id
from alphaecoli.genomics.intervals import merge
from alphaecoli.genomics.quality import shown
from alphaecoli.genomics.text import cut, one_line, open_text

LOGGER = logging.getLogger(__name__)

COLUMNS = 9
SOURCE = "alphaecoli"  # the second column of what is written
STRANDS = {"+": 1, "-": -1, ".": 0, "?": 0}
CONTIG_TYPES = ("region", "chromosome", "contig", "supercontig", "scaffold", "plasmid", "source")
# What GTF gives in place of a gene, best first; a stop codon belongs to the CDS before it.
_GTF_PARTS = (("cds", "stop_codon"), ("rna",), ("exon",), ("transcript",))
_GTF = re.compile(r"\s*\w+\s+[^=;\s]")  # the start of GTF's attributes
_GTF_PAIR = re.compile(r'\b(\w+)\s+(?:"([^"]*)"|([^\s";]+))')
# Characters to escape: in the first column all but these, in the last one these.
_SEQID = re.compile(r"[^a-zA-Z0-9.:^*$@!+_?|-]|^>")
_NOTE = re.compile(r"[\x00-\x1f\x7f%;=&,]")


class _Feature(NamedTuple):
  """A feature, and what tells it from others of its ID.

  Attributes:
    gene: the feature as a gene.
    identifier: ID, else gene_id, else locus tag; "" where it has none.
    label: locus tag, else name, else product.
    parents: features of which it is a part.
  """

  gene: Gene
  identifier: str
  label: str
  parents: tuple[str, ...]


def read_gff3(path: Path) -> Annotation:
  """Reads genes from a GFF3 or GTF file, plain or compressed.

  Features whose type ends in "gene" are taken, and the CDS and RNA features that belong to none of
  them. Lines that share an ID are one gene, unless their strand, type, locus tag, name or product
  differs. GTF is told by its attributes; its features belong to one gene by gene_id.

  Raises:
    DataError: missing, unreadable, not GFF3, or without a gene; names the line.
  """
  features: dict[str, list[_Feature]] = {"gene": [], "product": []}
  parts: dict[tuple[str, str], dict[str, list[_Feature]]] = {}  # of GTF, by gene_id and type
  parents: dict[str, tuple[str, ...]] = {}
  circular: set[str] = set()
  lengths: dict[str, int] = {}
  for place, attributes in read_features(path, lengths):
    feature = _feature(place, attributes)
    kind, low = feature_kind(place.type), place.type.lower()
    if attributes.get("Is_circular", "").lower() == "true":
      circular.add(place.contig)
    if place.start == 0 and low in CONTIG_TYPES:
      lengths[place.contig] = max(lengths.get(place.contig, 0), place.end)
    if attributes.get("ID"):
      parents[attributes["ID"]] = feature.parents
    if kind != "gene" and "gene_id" in attributes and not {"ID", "Parent"} & attributes.keys():
      low = "rna" if kind == "product" and low != "cds" else low
      of_gene = parts.setdefault((place.contig, attributes["gene_id"]), {})
      of_gene.setdefault(low, []).append(feature)
    elif kind:
      features[kind].append(feature)
  genes = _join(path, features["gene"])
  ids = {feature.identifier for feature in features["gene"]}
  own, of_genes = [], dict[str, list[str]]()
  for feature in features["product"]:
    if identifier := _gene_of(feature.parents, parents, ids):
      of_genes.setdefault(identifier, []).append(feature.gene.type)
    else:
      own.append(feature)
  from_gtf = map(_solid, _join(path, _gtf_products(parts, genes)))
  genes = with_products(genes, [*_join(path, own), *from_gtf], of_genes)
  if not genes:
    raise DataError(f"{path}: no gene, CDS or RNA feature; expected a GFF3 or GTF annotation")
  warn_of_nameless(genes, path)
  return Annotation(tuple(genes), frozenset(circular), path, lengths)


def _feature(place: Gene, attributes: Mapping[str, str]) -> _Feature:
  """Names a feature as a gene, by its symbol and not its product; gene_id may be its locus tag."""
  others = [attributes.get(key) for key in ("product", "protein_id", "transcript_id")]
  name = attributes.get("Name", "")
  name = "" if name in others or " " in name.strip() else name
  name = one_line(attributes.get("gene") or attributes.get("gene_name") or name)
  own = attributes.get("ID", "")
  gene_id = attributes.get("gene_id", "")
  if not gene_id and own.startswith("gene:"):  # Ensembl's IDs
    gene_id = own.removeprefix("gene:")
  tag = place.locus_tag or one_line(gene_id)
  identifier = one_line(own or gene_id) or tag
  called = identifier or name or place_id(place)
  kind = gene_type(place.type, attributes)
  gene = dataclasses.replace(place, id=called, locus_tag=tag, name=name, type=kind)
  label = tag or name or attributes.get("product", "")
  parents = tuple(filter(None, attributes.get("Parent", "").split(",")))
  return _Feature(gene, identifier, label, parents)


def _gene_of(
  parents: Sequence[str], by_id: Mapping[str, Sequence[str]], genes: Collection[str]
) -> str:
  """Returns the gene feature that a feature is a part of, or a part of one of its parts; or ""."""
  seen: set[str] = set()
  waiting = list(parents)
  while waiting:
    parent = waiting.pop()
    if parent in genes:
      return parent
    if parent not in seen:
      seen.add(parent)
      waiting += by_id.get(parent, ())
  return ""


def _gtf_products(
  parts: Mapping[tuple[str, str], Mapping[str, list[_Feature]]], genes: Iterable[Gene]
) -> list[_Feature]:
  """Returns what stands for those genes of a GTF file that have no feature of their own."""
  known = {(gene.contig, gene.id) for gene in genes} | {(g.contig, g.locus_tag) for g in genes}
  found: list[_Feature] = []
  for key, by_type in parts.items():
    kinds = next((kinds for kinds in _GTF_PARTS if kinds[0] in by_type), ())
    members = [feature for kind in kinds for feature in by_type.get(kind, ())]
    if key in known or not members:
      continue
    kind = members[0].gene.type if kinds[0] in ("cds", "rna") else "gene"
    found += [
      f._replace(gene=dataclasses.replace(f.gene, type=kind), identifier=key[1]) for f in members
    ]
  return found


def read_features(
  path: Path, lengths: dict[str, int] | None = None
) -> Iterator[tuple[Gene, dict[str, str]]]:
  """Reads every feature of a GFF3 or GTF file, whatever its type, with its attributes.

  Features between two bases are counted in the log and skipped.

  Args:
    path: file to read.
    lengths: dictionary that gets the lengths of the contigs that ##sequence-region declares.

  Raises:
    DataError: missing, unreadable or not GFF3; names the line.
  """
  between = 0
  for number, line in _lines(path):
    if line.startswith("#"):
      _, name, start, end, *_ = (*line.split(), "", "", "", "")
      if lengths is not None and start == "1" and is_position(end):
        lengths[unquote(name)] = int(end)
      continue
    feature, attributes = _parse(path, number, line)
    if feature.start == feature.end:
      between += 1
    else:
      yield feature, attributes
  if between:
    LOGGER.warning("%s: %d features skipped: they lie between two bases", path, between)


def is_feature(line: str) -> bool:
  """Returns whether a line has GFF3's nine columns, with numbers in the fourth and fifth."""
  columns = line.split("\t")
  return len(columns) == COLUMNS and is_position(columns[3]) and is_position(columns[4])


def is_position(text: str) -> bool:
  """Returns whether text is a whole number that can be a position."""
  return text.isdecimal() and len(text) <= 15


def _lines(path: Path) -> Iterator[tuple[int, str]]:
  """Yields feature lines and declared regions with their numbers; a FASTA section ends the file."""
  with open_text(path, "GFF3") as file:
    for number, line in enumerate(file, start=1):
      if line.startswith(("##FASTA", ">")):
        return
      if line.startswith("##sequence-region") or (line.strip() and not line.startswith("#")):
        yield number, line.rstrip("\r\n")


def _parse(path: Path, number: int, line: str) -> tuple[Gene, dict[str, str]]:
  """Parses a feature line and its attributes; a feature between two bases has no length."""
  where = f"{path}, line {number}"
  columns = line.split("\t")
  if len(columns) != COLUMNS:
    raise DataError(f"{where}: {len(columns)} columns; GFF3 has {COLUMNS}, separated by tabs")
  contig, _, kind, first, last, _, strand, _, notes = columns
  numbers = is_position(first) and is_position(last)
  if not (numbers and 1 <= int(first) <= int(last) + 1):
    raise DataError(f"{where}: positions {cut(first)} to {cut(last)}; expected 1 <= start <= end")
  if strand not in STRANDS:
    raise DataError(f"{where}: strand {cut(strand)!r}; expected + - . or ?")
  attributes = _attributes(notes)
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
    biotype=one_line(attributes.get("gene_biotype") or attributes.get("biotype", "")),
    old_locus_tags=old_tags(attributes.get("old_locus_tag", "")),
    operon=one_line(attributes.get("operon", "")),
  )
  return gene, attributes


def _attributes(notes: str) -> dict[str, str]:
  """Parses the last column: `key=value;` of GFF3, or `key "value";` of GTF, the first of a key."""
  attributes: dict[str, str] = {}
  if _GTF.match(notes):
    for key, quoted, bare in _GTF_PAIR.findall(notes):
      attributes.setdefault(key, quoted or bare)
    return attributes
  for note in notes.split(";"):
    key, equals, value = note.strip().partition("=")
    if equals:
      attributes[unquote(key)] = unquote(value)
  return attributes


def _join(path: Path, features: Iterable[_Feature]) -> list[Gene]:
  """Joins features of one contig that share an ID and do not differ; counts those that do."""
  lines: dict[object, list[Gene]] = {}
  latest: dict[object, str] = {}  # label of the gene to which a line without a label belongs
  genes: Counter[tuple[str, str]] = Counter()
  for feature, identifier, own_label, _ in features:
    place = (feature.contig, identifier, feature.type, feature.strand)
    base = place if identifier else feature.line
    label = latest.get(base, own_label)
    if own_label and label:
      label = own_label
    latest[base] = label
    of_gene = lines.setdefault((base, label), [])
    genes[feature.contig, identifier] += not of_gene
    of_gene.append(feature)
  twice = [name for (_, name), n in genes.items() if n > 1 and name]
  if twice:
    LOGGER.warning(
      "%s: %d IDs are kept apart, since what has them differs in strand, type, locus tag, name or "
      "product: %s",
      path,
      len(twice),
      shown(twice),
    )
  return sorted((_joined(of_gene) for of_gene in lines.values()), key=lambda gene: gene.line)


def _joined(lines: Sequence[Gene]) -> Gene:
  """Returns the gene that several lines describe."""
  if len(lines) == 1:
    return lines[0]
  start, end = min(line.start for line in lines), max(line.end for line in lines)
  fragments = tuple((line.start, line.end) for line in lines)
  return dataclasses.replace(lines[0], start=start, end=end, fragments=fragments)


def _solid(gene: Gene) -> Gene:
  """Joins fragments that touch or overlap."""
  fragments = tuple(merge(gene.intervals))
  return dataclasses.replace(gene, fragments=fragments if len(fragments) > 1 else ())


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
