"""Genes of an annotation as records, and the names by which tables may call them."""

import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import MAX_OUTSIDE, Annotation, Gene, across_origin, misfit, place_id
from alphaecoli.genomics.intervals import StartEnd, covering_interval
from alphaecoli.genomics.quality import QualityReport, shown
from alphaecoli.genomics.sequence import Contig

LOGGER = logging.getLogger(__name__)

NAME_KINDS = ("locus tag", "ID", "old locus tag", "name")  # in the order in which they are tried
NO_MATCH = "matches no gene"


class GeneNames:
  """Finds genes by locus tag, else ID, else old locus tag, else name.

  What no gene is called is looked up once more without regard to case and to the `gene-` or `gene:`
  before NCBI's and Ensembl's IDs; the first that is found so is logged.
  """

  def __init__(self, genes: Sequence[Gene], skipped: set[str]):
    """Indexes the genes.

    Args:
      genes: genes to find.
      skipped: all names of genes that were left out.
    """
    self._rows: dict[str, dict[str, int]] = {kind: {} for kind in NAME_KINDS}
    self._shared: set[str] = set()
    self._skipped = skipped
    for row, gene in enumerate(genes):
      self._rows["locus tag"].setdefault(gene.locus_tag, row)
      self._rows["ID"].setdefault(gene.id, row)
      for kind, names in (("old locus tag", gene.old_locus_tags), ("name", (gene.name,))):
        for name in names:
          if self._rows[kind].setdefault(name, row) != row:
            self._shared.add(name)
    for rows in self._rows.values():
      rows.pop("", None)
    # By kind, the names that are spelt alike; several of them are none that could be meant.
    self._alike: dict[str, dict[str, set[str]]] = {kind: {} for kind in NAME_KINDS}
    for kind, rows in self._rows.items():
      for name in rows:
        self._alike[kind].setdefault(_plain(name), set()).add(name)
    self._has_respelt = False

  def find(self, name: str) -> tuple[int, str] | str:
    """Returns the row of a gene and the kind of name that it has; else why none was found."""
    found = self._find(name)
    if found != NO_MATCH:
      return found
    plain = _plain(name)
    alike = next((names[plain] for names in self._alike.values() if plain in names), set())
    if len(alike) != 1:
      return NO_MATCH
    (spelt,) = alike
    if not self._has_respelt:
      self._has_respelt = True
      LOGGER.info("names that differ in case or by gene- are the same: %s is %s", name, spelt)
    return self._find(spelt)

  def _find(self, name: str) -> tuple[int, str] | str:
    """Finds a gene by a name as it is spelt."""
    for kind in NAME_KINDS:
      row = self._rows[kind].get(name)
      if row is not None:
        if kind in NAME_KINDS[2:] and name in self._shared:
          return f"{kind} of several genes"
        return row, kind
    return "gene that is left out" if name in self._skipped else NO_MATCH

  def split(self, cell: str) -> dict[str, None]:
    """Splits the names of genes in a cell: at commas, semicolons, bars and //.

    Spaces separate, too, unless a name has them; and hyphens between names that are known. Two of
    genes that are no neighbours may be the ends of a range, which is not split.
    """
    found: dict[str, None] = {}
    for part in (part.strip() for part in re.split(r"[,;|]|//", cell)):
      words = [part] if self.find(part) != NO_MATCH else part.split()
      for word in words:
        found |= dict.fromkeys(self._hyphenated(word) or [word])
    found.pop("", None)
    return found

  def _hyphenated(self, word: str) -> list[str]:
    """Returns the names in a word that is none itself; an empty list where it holds none."""
    names = word.split("-")
    rows = [found[0] for name in names if not isinstance(found := self.find(name), str)]
    if len(names) < 2 or len(rows) < len(names) or self.find(word) != NO_MATCH:
      return []
    return [] if len(rows) == 2 and abs(rows[0] - rows[1]) > 1 else names

  def examples(self, n: int = 3) -> str:
    """Returns a few locus tags, or IDs where there are none, for messages."""
    names = self._rows["locus tag"] or self._rows["ID"]
    return ", ".join(list(names)[:n])


def _plain(name: str) -> str:
  """Returns a name as names are compared that are not spelt alike."""
  plain = name.lower()
  return plain[5:] if plain.startswith(("gene-", "gene:")) else plain


def take_genes(
  annotation: Annotation,
  contigs: Sequence[Contig],
  others: Collection[str],
  *,
  circular: Mapping[str, bool],
  exclude_types: Collection[str],
  report: QualityReport,
) -> tuple[list[Gene], GeneNames]:
  """Selects the genes of the contigs that are prepared as records.

  A gene's type is its gene_biotype, else the feature's type. The first of several genes with one
  locus tag is the one that tables mean.

  Args:
    annotation: genes of the genome.
    contigs: contigs that are prepared.
    others: names of the genome's other contigs.
    circular: whether a gene may pass the end, by contig.
    exclude_types: types that are left out.
    report: counter of genes that are left out or repaired.

  Raises:
    DataError: no gene lies on the contigs, or too many lie outside them.
  """
  genes: list[Gene] = []
  skipped: set[str] = set()
  ids: Counter[str] = Counter()
  outside = 0
  lengths = {contig.name: contig.length_bp for contig in contigs}
  for found in annotation.genes:
    report.total("annotated genes")
    kind = found.biotype or found.type
    example = found.id or found.locus_tag
    if found.contig in others:
      reason: str | None = "gene on a contig that is left out"
    elif found.contig not in lengths:
      reason, example = "gene on a contig that is not in the genome", found.contig
      outside += 1
    elif kind in exclude_types:
      reason = f"gene of excluded type {kind}"
    else:
      reason = misfit(found, lengths, circular)
      outside += reason is not None
      reason = reason and f"gene {reason}"
    if reason is not None:
      report.count(reason, 1, example)
      skipped |= {found.locus_tag, found.id, found.name, *found.old_locus_tags}
      continue
    length_bp = lengths[found.contig]
    placed = across_origin(found, length_bp) if circular[found.contig] else found
    genes.append(_record(placed, kind, length_bp, ids, report))
  if not genes or outside > MAX_OUTSIDE * (outside + len(genes)):
    raise DataError(
      f"{annotation.path}: {len(genes)} of {len(annotation.genes)} genes fit {shown(lengths)} "
      f"({sum(lengths.values())} bp); the annotation names "
      f"{shown(g.contig for g in annotation.genes)}: is it the annotation of this genome?"
    )
  report.total("genes", len(genes))
  _count_tags(genes, report)
  return genes, GeneNames(genes, skipped - {""})


def _record(
  gene: Gene, kind: str, length_bp: int, ids: Counter[str], report: QualityReport
) -> Gene:
  """Converts one gene; an ID that is taken gets a number."""
  identifier = gene.id or gene.locus_tag or place_id(gene)
  ids[identifier] += 1
  if ids[identifier] > 1:
    report.count("gene whose ID is taken: numbered", 1, identifier)
    identifier = f"{identifier}-{ids[identifier]}"
  if gene.strand == 0:
    report.count("gene without strand", 1, identifier)
  fragments = _join_at_origin(sorted(gene.intervals), length_bp)
  whole = fragments == ((gene.start, gene.end),)
  return dataclasses.replace(gene, id=identifier, type=kind, fragments=() if whole else fragments)


def _join_at_origin(fragments: list[StartEnd], length_bp: int) -> tuple[StartEnd, ...]:
  """Joins the two fragments that a file splits at the origin of a circular contig."""
  before = next((f for f in fragments if f[1] == length_bp), None)
  after = next((f for f in fragments if f[0] == length_bp), None)
  if before is None or after is None:
    return tuple(fragments)
  rest = [f for f in fragments if f not in (before, after)]
  return tuple(sorted([*rest, (before[0], after[1])]))


def _count_tags(genes: Iterable[Gene], report: QualityReport) -> None:
  """Counts genes without a locus tag, and those that share one."""
  tags = Counter(gene.locus_tag for gene in genes)
  report.count("gene without a locus tag", tags.pop("", 0))
  for tag, n in tags.items():
    report.count("gene whose locus tag an earlier gene has", n - 1, tag)


def covering(members: Sequence[Gene], length_bp: int, circular: bool) -> tuple[int, int]:
  """Returns the interval from first to last gene, over the origin of a circle if shorter."""
  if circular:
    return covering_interval([(g.start, g.end) for g in members], length_bp)
  return min(g.start for g in members), max(g.end for g in members)


def within(genes: list[Gene], interval: tuple[int, int], strand: int, length_bp: int) -> list[int]:
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
