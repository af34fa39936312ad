"""Operons from a table or a GFF3 file; the one place where their positions become 0-based."""

import dataclasses
import logging
from collections.abc import Iterable
from pathlib import Path

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import STRANDS, Gene, Operon
from alphaecoli.genomics.gff3 import is_feature, read_features
from alphaecoli.genomics.intervals import covering_interval
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.sequence import Contig
from alphaecoli.genomics.text import open_text, read_table
from alphaecoli.organism.genes import NAME_KINDS, NO_MATCH, GeneNames

LOGGER = logging.getLogger(__name__)
_EXPECTED = "a table of operons with a header: operon, and genes or start and end (1-based)"
_COLUMNS = ("operon", "genes", "start", "end", "strand", "contig")


@dataclasses.dataclass
class _Listed:
  """An operon as a file gives it: members by any name, an interval where there is one."""

  id: str
  name: str
  members: dict[str, None]
  contig: str = ""
  interval: tuple[int, int] | None = None
  strand: int = 0


def read_operons(
  path: Path,
  genes: list[Gene],
  names: GeneNames,
  contig: Contig,
  others: Iterable[str],
  *,
  circular: bool,
  report: QualityReport,
) -> list[Operon]:
  """Reads operons, plain or gzip; told apart by content.

  A table has a header with `operon` (an id) and `genes` (names with commas between), or `start`
  and `end` (1-based, inclusive; on a circular contig an end before the start, or beyond the length,
  passes the origin), or both; `strand` and `contig` are optional. GFF3 has features of type operon;
  genes belong to one by their Parent, or by an attribute operon=NAME.

  An operon without positions reaches from its first to its last gene. One without genes holds
  those of its strand that lie fully within it. A listed gene that the annotation does not have
  counts as a gene of the operon; one that is left out does not.

  Args:
    path: file to read.
    genes: genes of the contig.
    names: names by which the file may call them.
    contig: contig that is prepared.
    others: names of the genome's other contigs.
    circular: whether an operon may pass the contig's end.
    report: counter of operons that are skipped or repaired.

  Raises:
    DataError: neither a table nor GFF3, none of its genes is known, or none of its operons can be
      placed.
  """
  listed = _from_gff3(path) if _is_gff3(path) else _from_table(path)
  _check_members(path, listed, names)
  operons: dict[str, Operon] = {}
  for item in listed:
    report.total("listed operons")
    if item.contig in others:
      report.count("operon on a contig that is left out", 1, item.id)
    elif item.contig and item.contig != contig.name:
      report.count(f"operon on {item.contig}, which is not in the genome", 1, item.id)
    elif item.id in operons:
      report.count("operon listed twice", 1, item.id)
    else:
      operon = _operon(item, genes, names, contig.length_bp, circular, report)
      if operon is not None:
        operons[item.id] = operon
  if not operons:
    raise DataError(f"{path}: none of its {len(listed)} operons lies on {contig.name}")
  report.total("operons", len(operons))
  report.total("operons with two genes or more", sum(len(o.gene_ids) > 1 for o in operons.values()))
  return list(operons.values())


def _check_members(path: Path, listed: list[_Listed], names: GeneNames) -> None:
  """Warns where most genes of the operons are unknown.

  Raises:
    DataError: all are unknown.
  """
  members = dict.fromkeys(member for item in listed for member in item.members)
  unknown = [member for member in members if names.find(member) == NO_MATCH]
  if members and len(unknown) == len(members):
    raise DataError(
      f"{path}: none of its {len(members)} genes matches a gene by {', '.join(NAME_KINDS)}; it "
      f"names {', '.join(unknown[:3])}, the annotation {names.examples()}"
    )
  if 2 * len(unknown) > len(members):
    LOGGER.warning("%s: %d of %d genes match none", path, len(unknown), len(members))


def _operon(
  item: _Listed,
  genes: list[Gene],
  names: GeneNames,
  length_bp: int,
  circular: bool,
  report: QualityReport,
) -> Operon | None:
  """Places an operon and its genes; None, and counted, where it has no position."""
  interval = item.interval and _on_contig(*item.interval, length_bp, circular)
  if item.interval and interval is None:
    report.count("operon with positions outside the contig", 1, item.id)
  rows, unknown = _members(item, names, report)
  if not item.members and interval is not None:
    rows = _within(genes, interval, item.strand, length_bp)
  members = [genes[row] for row in rows]
  if interval is None:
    if not members:
      report.count("operon skipped: no positions and no placed gene", 1, item.id)
      return None
    interval = covering_interval([(g.start, g.end) for g in members], length_bp)
  strands = {gene.strand for gene in members}
  strand = item.strand or (strands.pop() if len(strands) == 1 else 0)
  if strand == 0:
    report.count("operon without strand", 1, item.id)
  return Operon(item.id, item.name, *interval, strand, (*(gene.id for gene in members), *unknown))


def _members(item: _Listed, names: GeneNames, report: QualityReport) -> tuple[list[int], list[str]]:
  """Returns the rows of an operon's genes, and the names without a match, which still count."""
  rows: dict[int, None] = {}
  unknown = []
  for member in item.members:
    found = names.find(member)
    if not isinstance(found, str):
      rows[found[0]] = None
      continue
    report.count(f"operon gene: {found}", 1, member)
    if found == NO_MATCH:
      unknown.append(member)
  return list(rows), unknown


def _on_contig(start: int, end: int, length_bp: int, circular: bool) -> tuple[int, int] | None:
  """Returns an interval of the contig; None where it is outside."""
  if end <= start and circular:
    end += length_bp
  fits = 0 <= start < length_bp and start < end <= (start + length_bp if circular else length_bp)
  return (start, end) if fits else None


def _within(genes: list[Gene], interval: tuple[int, int], strand: int, length_bp: int) -> list[int]:
  """Returns the rows of the genes of a strand (0: either) fully within an interval, in order."""
  start, end = interval
  offsets = {
    row: (gene.start - start) % length_bp
    for row, gene in enumerate(genes)
    if strand in (0, gene.strand)
  }
  inside = [
    row
    for row, offset in offsets.items()
    if offset + genes[row].end - genes[row].start <= end - start
  ]
  return sorted(inside, key=lambda row: (offsets[row], row))


def _is_gff3(path: Path) -> bool:
  """Returns whether the first line that is no comment has GFF3's columns with two positions."""
  with open_text(path, f"{_EXPECTED}; or GFF3") as file:
    for line in file:
      if line.startswith("##gff-version"):
        return True
      if line.strip() and not line.startswith("#"):
        return is_feature(line)
  return False


def _from_gff3(path: Path) -> list[_Listed]:
  """Reads operon features, and genes that name one; both may name the same operon."""
  operons: dict[str, _Listed] = {}
  links: list[tuple[str, str, str]] = []  # operon, gene, contig
  for feature, attributes in read_features(path):
    if feature.type == "operon":
      identifier = feature.id or feature.operon or f"operon at line {feature.line}"
      if identifier in operons:
        raise DataError(f"{path}, line {feature.line}: a second operon with ID {identifier}")
      operons[identifier] = _Listed(
        identifier,
        feature.name or feature.operon or identifier,
        {},
        feature.contig,
        (feature.start, feature.end),
        feature.strand,
      )
    elif feature.type.lower().endswith("gene"):
      own = feature.locus_tag or feature.id
      parents = attributes.get("Parent", "").split(",")
      links += [(p, own, feature.contig) for p in (*parents, feature.operon) if p]
  by_name = {item.name: item for item in reversed(operons.values())}
  for name, gene, contig in links:
    item = operons.get(name) or by_name.get(name)
    if item is None:
      item = operons[name] = _Listed(name, name, {}, contig)
    item.members[gene] = None
  if not operons:
    raise DataError(f"{path}: no operon feature, and no gene with an operon attribute or Parent")
  return list(operons.values())


def _from_table(path: Path) -> list[_Listed]:
  """Reads the rows of a table.

  Raises:
    DataError: a column is missing, or a position is not a whole number; names the line.
  """
  table = read_table(path, _EXPECTED)
  columns = [column.lower() for column in table.columns]
  if "operon" not in columns or not ("genes" in columns or {"start", "end"} <= set(columns)):
    raise DataError(f"{path}: columns {', '.join(table.columns)}; expected {_EXPECTED}")
  listed = []
  for number, cells in table.rows:
    row = {key: dict(zip(columns, cells, strict=True)).get(key, "") for key in _COLUMNS}
    interval = None
    if row["start"] or row["end"]:
      if not (row["start"].isdecimal() and row["end"].isdecimal()):
        raise DataError(
          f"{path}, line {number}: positions {row['start']!r} to {row['end']!r}; expected whole "
          "numbers from 1"
        )
      interval = int(row["start"]) - 1, int(row["end"])
    members = dict.fromkeys(name.strip() for name in row["genes"].split(",") if name.strip())
    strand = STRANDS.get(row["strand"], 0)
    name = row["operon"]
    listed.append(_Listed(name, name, members, row["contig"], interval, strand))
  return listed
