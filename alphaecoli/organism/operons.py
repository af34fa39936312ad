"""Operons from a table or a GFF3 file; the one place where their positions become 0-based."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import STRANDS, Gene, Operon
from alphaecoli.genomics.gff3 import is_feature, read_features
from alphaecoli.genomics.quality import QualityReport, check_names_match, shown
from alphaecoli.genomics.sequence import Contig
from alphaecoli.genomics.text import open_text
from alphaecoli.organism.genes import NO_MATCH, GeneNames, covering, within
from alphaecoli.organism.tables import read_cells

MOST_DIGITS = 12  # of a position
_EXPECTED = "a table of operons with a header: operon, and genes or start and end (1-based)"
# What tables call their columns; the first that a table has counts.
_COLUMNS = {
  "operon": ("operon", "operon_id", "operonid", "operon_name", "operonname"),
  "genes": ("genes", "operongenes", "locus_tags", "locus_tag", "locus", "synonym", "gene_id",
            "geneid", "idgene", "gene", "gene_name"),
  "start": ("start", "left", "start_position", "firstgeneleftpos", "posleft"),
  "end": ("end", "stop", "right", "end_position", "lastgenerightpos", "postright"),
  "strand": ("strand", "orientation"),
  "contig": ("contig", "seqid", "chromosome", "replicon"),
}  # fmt: skip
_STRANDS = STRANDS | {
  **dict.fromkeys(("1", "+1", "1.0", "plus", "f", "fwd"), 1),
  **dict.fromkeys(("-1", "-1.0", "\N{MINUS SIGN}", "\N{MINUS SIGN}1", "minus", "r", "rev"), -1),
  **dict.fromkeys(("", ".", "?", "0", "na", "nan"), 0),
}
_NO_OPERON = ("", "-", ".", "na", "n/a", "#n/a", "nan", "none", "null", "no", "false", "singleton")


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
  contigs: Sequence[Contig],
  others: Iterable[str],
  *,
  circular: Mapping[str, bool],
  report: QualityReport,
) -> dict[str, list[Operon]]:
  """Reads operons, plain or packed; told apart by content.

  A table has a header with `operon` (an id) and `genes` (names, or one gene a row), or `start` and
  `end` (1-based, inclusive), or both; `strand` and `contig` are optional. Without `operon`, each
  row is an operon if `genes` lists several somewhere. An end beyond the length
  passes the origin of a circular contig. One before the start does so, too, or the two are swapped,
  as on the minus strand: the genes decide. GFF3 has features of type operon; genes belong to one by
  their Parent, or by an attribute operon=NAME.

  An operon lies on the contig that it names, else on that of its genes, which have one; where
  several contigs are prepared and neither says it, it is left out.

  An operon without positions reaches from its first to its last gene. One without genes holds
  those of its strand that lie fully within it. A listed gene that the annotation does not have
  counts as a gene of the operon; one that is left out does not.

  Args:
    path: file to read.
    genes: genes of the contigs.
    names: names by which the file may call them.
    contigs: contigs that are prepared.
    others: names of the genome's other contigs.
    circular: whether an operon may pass the end, by contig.
    report: counter of operons that are skipped or repaired.

  Returns:
    Operons by contig; of a contig on which none is listed an empty list.

  Raises:
    DataError: neither a table nor GFF3, most of its genes are unknown, or none of its operons can
      be placed.
  """
  listed = _from_gff3(path) if _is_gff3(path) else _from_table(path, names, report)
  members = dict.fromkeys(member for item in listed for member in item.members)
  unknown = [member for member in members if names.find(member) == NO_MATCH]
  check_names_match(path, members, unknown, (gene.locus_tag or gene.id for gene in genes))
  operons: dict[str, dict[str, Operon]] = {contig.name: {} for contig in contigs}
  lengths = {contig.name: contig.length_bp for contig in contigs}
  here = {name: [gene for gene in genes if gene.contig == name] for name in lengths}
  for item in listed:
    report.total("listed operons")
    if item.contig and item.contig not in operons:
      where = "a contig that is left out"
      where = where if item.contig in others else f"{item.contig}, which is not in the genome"
      report.count(f"operon on {where}", 1, item.id)
      continue
    rows, unknown = _members(item, names, report)
    named = {item.contig} if item.contig else {genes[row].contig for row in rows} or set(operons)
    contig = min(named)
    if len(named) > 1 or any(genes[row].contig != contig for row in rows):
      which = "its genes lie on several contigs" if rows else "nothing says on which contig it lies"
      report.count(f"operon left out: {which}", 1, item.id)
    elif item.id in operons[contig]:
      report.count("operon listed twice", 1, item.id)
    else:
      own, place = [genes[row] for row in rows], (lengths[contig], circular[contig])
      placed = _operon(item, here[contig], own, unknown, *place, report)
      if placed is not None:
        operons[contig][item.id] = placed
  kept = [operon for of_contig in operons.values() for operon in of_contig.values()]
  if not kept:
    raise DataError(f"{path}: none of its {len(listed)} operons lies on {shown(operons)}")
  report.total("operons", len(kept))
  report.total("operons with two genes or more", sum(len(o.gene_ids) > 1 for o in kept))
  return {contig: list(of_contig.values()) for contig, of_contig in operons.items()}


def _operon(
  item: _Listed,
  genes: list[Gene],
  members: list[Gene],
  unknown: list[str],
  length_bp: int,
  circular: bool,
  report: QualityReport,
) -> Operon | None:
  """Places an operon and its genes; None, and counted, where it has no position that can be.

  Args:
    item: operon as listed.
    genes: genes of its contig.
    members: those of them that it lists.
    unknown: names that it lists and no gene has.
    length_bp: length of the contig.
    circular: whether the contig is circular.
    report: counter of what is left out or repaired.
  """
  strands = {gene.strand for gene in members}
  strand = strands.pop() if len(strands) == 1 else 0
  if item.strand and strand not in (0, item.strand):
    report.count("operon on the other strand than its genes: theirs is taken", 1, item.id)
  strand = strand or item.strand
  interval = None
  if item.interval:
    readings = _readings(*item.interval, length_bp, circular)
    fitting = [r for r in readings if _fits(item, r, members, genes, strand, length_bp)]
    swapped = item.interval[1] <= item.interval[0]
    if not readings:
      report.count("operon with positions outside the contig", 1, item.id)
    elif len(fitting) != 1:
      fault = "its end lies before its start" if swapped else "its genes lie elsewhere"
      report.count(f"operon left out: {fault}", 1, item.id)
      return None
    else:
      interval = fitting[0]
      if swapped and interval[1] == item.interval[0] + 1:
        report.count("operon whose end lies before its start: swapped", 1, item.id)
  if interval is None:
    if not members:
      report.count("operon skipped: no positions and no placed gene", 1, item.id)
      return None
    interval = covering(members, length_bp, circular)
  elif not item.members:
    members = [genes[row] for row in within(genes, interval, strand, length_bp)]
    strands = {gene.strand for gene in members}
    strand = strand or (strands.pop() if len(strands) == 1 else 0)
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


def _readings(start: int, end: int, length_bp: int, circular: bool) -> list[tuple[int, int]]:
  """Returns what two positions may mean as an interval of the contig: nothing, one or two."""
  possible = [(start, end)]
  if end <= start:
    possible = [(end - 1, start + 1), *([(start, end + length_bp)] if circular else [])]
  most = length_bp if circular else 0
  return [(a, b) for a, b in possible if 0 <= a < length_bp and a < b <= max(a + most, length_bp)]


def _fits(
  item: _Listed,
  reading: tuple[int, int],
  members: list[Gene],
  genes: list[Gene],
  strand: int,
  length_bp: int,
) -> bool:
  """Returns whether the genes of an operon bear out a reading of its positions.

  All of its genes lie there, by their midpoints. Where it lists none, an end after the start needs
  no more; an end before it means the minus strand or the origin, with genes, and no more than half
  of the contig.
  """
  start, end = reading
  if members:
    middles = ((gene.start + gene.end) // 2 for gene in members)
    return all((middle - start) % length_bp < end - start for middle in middles)
  if item.interval == reading or not within(genes, reading, strand, length_bp):
    return item.interval == reading
  return 2 * (end - start) <= length_bp and (end > length_bp or strand < 0)


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


def _from_table(path: Path, names: GeneNames, report: QualityReport) -> list[_Listed]:
  """Reads the rows of a table; rows of one gene each that name the same operon are joined.

  Raises:
    DataError: a column is missing, a position is not a whole number, or a strand is not understood;
      names the line.
  """
  table = read_cells(path, _EXPECTED)
  rows = table.rows
  columns = [re.sub(r"[ .-]+", "_", re.sub(r"^\d+\)", "", c).lower()) for c in table.columns]
  found = {
    key: columns.index(next(name for name in wanted if name in columns))
    for key, wanted in _COLUMNS.items()
    if not set(wanted).isdisjoint(columns)
  }
  # Without names of operons, as Rockhopper writes them, each row is one that lists its genes.
  lists = "genes" in columns and any(len(names.split(c[found["genes"]])) > 1 for _, c in rows)
  if not ("operon" in found or lists) or not ("genes" in found or {"start", "end"} <= found.keys()):
    raise DataError(f"{path}: columns {', '.join(table.columns)[:200]}; expected {_EXPECTED}")
  groups: dict[tuple[str, str], list[_Listed]] = {}
  heading = ""  # of Operon-mapper: a line with the operon alone, above those of its genes
  for number, cells in rows:
    row = {key: cells[found[key]].strip() if key in found else "" for key in _COLUMNS}
    if "operon" not in found:
      row["operon"] = f"operon at line {number}"
    elif "idgene" in columns and row["operon"] and not row["genes"]:
      heading = row["operon"]
      continue
    row["operon"] = row["operon"] or heading
    if row["operon"].lower() in _NO_OPERON:
      report.count("row without an operon", 1, row["genes"])
      continue
    if row["strand"].lower() not in _STRANDS:
      raise DataError(
        f"{path}, line {number}: strand {row['strand'][:40]!r}; expected + or -, 1 or -1, forward "
        "or reverse, or nothing"
      )
    name, contig, strand = row["operon"], row["contig"], _STRANDS[row["strand"].lower()]
    interval = _positions(path, number, row["start"], row["end"])
    item = _Listed(name, name, names.split(row["genes"]), contig, interval, strand)
    groups.setdefault((name, contig), []).append(item)
  return [item for group in groups.values() for item in _join(group)]


def _positions(path: Path, number: int, first: str, last: str) -> tuple[int, int] | None:
  """Reads two positions, perhaps as floats that are whole; None where there are none.

  Raises:
    DataError: they are no whole numbers.
  """
  if not (first or last):
    return None
  texts = [re.sub(r"\.0+$", "", text) for text in (first, last)]
  if not all(text.isdecimal() and len(text) <= MOST_DIGITS for text in texts):
    raise DataError(
      f"{path}, line {number}: positions {first[:40]!r} to {last[:40]!r}; expected whole numbers "
      "from 1"
    )
  return int(texts[0]) - 1, int(texts[1])


def _join(rows: list[_Listed]) -> list[_Listed]:
  """Joins rows that list one gene of the same operon each; other rows stay as they are.

  Positions and strands that differ from row to row are those of the genes.
  """
  if len(rows) == 1 or any(len(row.members) != 1 for row in rows):
    return rows
  members = {name: None for row in rows for name in row.members}
  intervals, strands = {row.interval for row in rows}, {row.strand for row in rows}
  return [
    dataclasses.replace(
      rows[0],
      members=members,
      interval=intervals.pop() if len(intervals) == 1 else None,
      strand=strands.pop() if len(strands) == 1 else 0,
    )
  ]
