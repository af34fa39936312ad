"""The gene table of a store, `genes.tsv` and its columns in memory; which operons can be."""

import csv
import dataclasses
import functools
import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64, Shaped

from alphaecoli.errors import DataError
from alphaecoli.files import write_text
from alphaecoli.genomics.genes import (
  EXPERIMENTAL,
  Annotation,
  Gene,
  GenomeRecords,
  Operon,
)
from alphaecoli.genomics.intervals import StartEnd
from alphaecoli.genomics.quality import shown
from alphaecoli.genomics.text import one_line

LOGGER = logging.getLogger(__name__)

_TEXT = ("gene_id", "name", "locus_tag", "type", "split", "operon_id")
EVIDENCE = "operon_evidence"  # a column that stores of earlier versions lack
COLUMNS = (
  "gene_id", "name", "locus_tag", "start", "end", "strand", "type", "split", "operon_id",
  "fragments",
)  # fmt: skip
TRACK_PREFIX = "log_tpm:"
MOST_FOREIGN = 3  # genes that an operon of one may cover besides, as gfcA's does in RegulonDB


@dataclasses.dataclass(frozen=True)
class GeneTable:
  """The genes of a store, one row each.

  Attributes:
    gene_id: identifier in RegulonDB or the annotation.
    name: such as thrA.
    locus_tag: b-number, "" if none.
    start: first base, 0-based.
    end: one past the last base; beyond the chromosome's length where the gene passes the origin.
    strand: +1, -1 or 0 (unknown).
    type: RegulonDB's gene type.
    split: train, validation, test, or border where no split holds all of the gene.
    operon_id: "" if the gene is in none.
    fragments: intervals of the gene's bases: one, or several where it is interrupted.
    log_tpm: natural log(1 + TPM), mean over each track's data sets; NaN where unknown.
    operon_evidence: experimental, other or none, of genes in an operon of several genes, "" of
      others; None in stores of earlier versions.
  """

  gene_id: Shaped[np.ndarray, "G"]
  name: Shaped[np.ndarray, "G"]
  locus_tag: Shaped[np.ndarray, "G"]
  start: Int64[np.ndarray, "G"]
  end: Int64[np.ndarray, "G"]
  strand: Int8[np.ndarray, "G"]
  type: Shaped[np.ndarray, "G"]
  split: Shaped[np.ndarray, "G"]
  operon_id: Shaped[np.ndarray, "G"]
  fragments: tuple[tuple[StartEnd, ...], ...]
  log_tpm: Float64[np.ndarray, "G T"]
  operon_evidence: Shaped[np.ndarray, "G"] | None = None

  def __len__(self) -> int:
    return len(self.gene_id)

  @classmethod
  def of(
    cls, genome_records: GenomeRecords, splits: Sequence[str], log_tpm: Float64[np.ndarray, "G T"]
  ) -> "GeneTable":
    """Arranges the genes of records as columns, in their order."""
    genes = genome_records.genes
    of_operon = {g: o for o in reversed(genome_records.operons or []) for g in o.gene_ids}
    operons = [of_operon.get(g.id) for g in genes]
    return cls(
      gene_id=np.array([g.id for g in genes], np.str_),
      name=np.array([g.name for g in genes], np.str_),
      locus_tag=np.array([g.locus_tag for g in genes], np.str_),
      start=np.array([g.start for g in genes], np.int64),
      end=np.array([g.end for g in genes], np.int64),
      strand=np.array([g.strand for g in genes], np.int8),
      type=np.array([g.type for g in genes], np.str_),
      split=np.array(splits, np.str_),
      operon_id=np.array([o.id if o else "" for o in operons], np.str_),
      fragments=tuple(g.intervals for g in genes),
      log_tpm=log_tpm,
      operon_evidence=np.array(
        [o.evidence if o and len(o.gene_ids) > 1 else "" for o in operons], np.str_
      ),
    )

  @classmethod
  def joined(cls, tables: Sequence["GeneTable"]) -> "GeneTable":
    """Puts the genes of several contigs together, in order."""
    if len(tables) == 1:
      return tables[0]
    columns = {f.name: [getattr(t, f.name) for t in tables] for f in dataclasses.fields(cls)}
    evidence, fragments = columns.pop(EVIDENCE), columns.pop("fragments")
    return cls(
      **{name: np.concatenate(parts) for name, parts in columns.items()},
      fragments=tuple(itertools.chain(*fragments)),
      operon_evidence=None if any(e is None for e in evidence) else np.concatenate(evidence),
    )

  @property
  def unlisted(self) -> Bool[np.ndarray, "G"]:
    """Returns which genes lie in no listed operon, not even in one of a single gene."""
    return self.operon_id == ""

  @property
  def supported(self) -> Bool[np.ndarray, "G"]:
    """Returns which genes lie in an operon of several genes with experimental evidence."""
    return self._evidence == EXPERIMENTAL

  @property
  def unsupported(self) -> Bool[np.ndarray, "G"]:
    """Returns which genes lie in an operon of several genes without experimental evidence."""
    return (self._evidence != "") & (self._evidence != EXPERIMENTAL)

  @property
  def _evidence(self) -> Shaped[np.ndarray, "G"]:
    """Returns the evidence of each gene's operon; "" where the store does not have it."""
    return np.full(len(self), "") if self.operon_evidence is None else self.operon_evidence

  def row(self, gene: Gene) -> int | None:
    """Finds the row of a gene of an annotation: the same locus tag, else the same id."""
    return self._rows.get(gene.locus_tag, self._rows.get(gene.id))

  @functools.cached_property
  def _rows(self) -> dict[str, int]:
    """Returns the row of each locus tag, and of each id."""
    ids = {name: row for row, name in enumerate(self.gene_id.tolist())}
    return ids | {name: row for row, name in enumerate(self.locus_tag.tolist()) if name}

  def annotation(self, path: Path, contig: str, circular: bool) -> Annotation:
    """Converts the rows to an annotation of the chromosome.

    Args:
      path: genes.tsv, whose lines the genes name.
      contig: name of the chromosome.
      circular: whether its end joins its start.
    """
    genes = tuple(
      Gene(
        id=str(self.gene_id[row]),
        locus_tag=str(self.locus_tag[row]),
        name=str(self.name[row]),
        type=str(self.type[row]),
        contig=contig,
        start=int(self.start[row]),
        end=int(self.end[row]),
        strand=int(self.strand[row]),
        fragments=self.fragments[row] if len(self.fragments[row]) > 1 else (),
        line=row + 2,  # after the header
      )
      for row in range(len(self))
    )
    return Annotation(genes, frozenset([contig] if circular else ()), path)


def possible_operons(genome: Sequence[GenomeRecords]) -> list[list[Operon] | None]:
  """Leaves out operons of each contig that can not be, counted and named; None: none are given.

  Genes of an operon have one strand and are neighbours: one that covers more foreign genes than it
  has of its own is a mistake. Genes of the other strand are foreign where they overlap none of its
  own, as an antisense RNA does.

  Raises:
    DataError: none can be.
  """
  left_out: list[str] = []
  kept = [
    None if records.operons is None else _possible(records, records.operons, left_out)
    for records in genome
  ]
  if left_out:
    n = sum(len(operons) for operons in kept if operons)
    text = f"{len(left_out)} of {n + len(left_out)} operons can not be: {shown(left_out, 10)}"
    if not n:
      raise DataError(f"{text}; are they operons of this genome?")
    LOGGER.warning("left out, as the quality report says: %s", text)
  return kept


def _possible(
  genome_records: GenomeRecords, operons: Sequence[Operon], left_out: list[str]
) -> list[Operon]:
  """Returns the operons of one contig that can be; names the others in `left_out`."""
  genes, length_bp = genome_records.genes, genome_records.contig.length_bp
  rows = {gene.id: row for row, gene in enumerate(genes)}
  bounds = np.array([(g.start, g.end - g.start, g.strand) for g in genes], np.int64).reshape(-1, 3)
  kept = []
  for operon in operons:
    fault = _fault(operon, rows, bounds, length_bp)
    if fault is None:
      kept.append(operon)
    else:
      genome_records.report.count(f"operon left out: {fault}", 1, operon.id)
      left_out.append(operon.id)
  return kept


def _fault(
  operon: Operon, rows: Mapping[str, int], bounds: Int64[np.ndarray, "G 3"], length_bp: int
) -> str | None:
  """Returns why an operon can not be, None where it can; `bounds`: start, length and strand."""
  own = np.array([rows[gene] for gene in operon.gene_ids if gene in rows], np.int64)
  start, length, strand = bounds.T
  strands = set(strand[own].tolist()) - {0}
  if len(strands) > 1:
    return "genes of both strands"
  offset = (start - operon.start) % length_bp
  foreign = offset + length <= operon.end - operon.start
  foreign[own] = False
  same = foreign & (strand == (strands.pop() if strands else operon.strand))
  apart = foreign & ~same
  for row in own if apart.any() else ():
    gap = (start - start[row] + length_bp // 2) % length_bp - length_bp // 2
    apart &= (gap >= length[row]) | (gap + length <= 0)
  n = len(operon.gene_ids)
  if n and same.sum() + apart.sum() > (n if n > 1 else MOST_FOREIGN):
    return "more foreign genes than its own"
  return None


def read_genes(path: Path, tracks: Sequence[str]) -> GeneTable:
  """Reads genes.tsv.

  Raises:
    KeyError, ValueError or TypeError: a column is missing or a value can not be read.
  """
  # Not text.read_table: names are read as they are written, with quotes and spaces.
  with path.open(newline="", encoding="utf-8") as file:
    reader = csv.DictReader(file, dialect="excel-tab", quoting=csv.QUOTE_NONE)
    rows, known = list(reader), EVIDENCE in (reader.fieldnames or ())
  columns = {key: [row[key] for row in rows] for key in COLUMNS}
  log_tpm = [[float(row[TRACK_PREFIX + t] or "nan") for t in tracks] for row in rows]
  text = {key: np.array(columns[key], np.str_) for key in COLUMNS}
  start, end = (np.array(list(map(int, columns[k])), np.int64) for k in ("start", "end"))
  strand = np.array(list(map(int, columns["strand"])), np.int8)
  fragments = tuple(
    _fragments(f, int(a), int(b)) for f, a, b in zip(text["fragments"], start, end, strict=True)
  )
  return GeneTable(
    **{key: text[key] for key in _TEXT},
    start=start,
    end=end,
    strand=strand,
    fragments=fragments,
    log_tpm=np.array(log_tpm, np.float64).reshape(len(rows), len(tracks)),
    operon_evidence=np.array([row[EVIDENCE] for row in rows], np.str_) if known else None,
  )


def write_genes(path: Path, genes: GeneTable, tracks: Sequence[str]) -> None:
  """Writes genes.tsv: a `log_tpm:<track>` column per track, empty where unknown."""
  columns = (*COLUMNS, EVIDENCE) if genes.operon_evidence is not None else COLUMNS
  lines = ["\t".join([*columns, *(TRACK_PREFIX + track for track in tracks)])]
  for i in range(len(genes)):
    fields = {key: getattr(genes, key)[i] for key in columns}
    intervals = genes.fragments[i]
    whole = intervals == ((genes.start[i], genes.end[i]),)
    fields["fragments"] = "" if whole else ";".join(f"{a}-{b}" for a, b in intervals)
    values = ["" if np.isnan(v) else f"{v:.9g}" for v in genes.log_tpm[i]]
    lines.append("\t".join([*(one_line(str(fields[key])) for key in columns), *values]))
  write_text(path, "\n".join(lines) + "\n")


def _fragments(text: str, start: int, end: int) -> tuple[StartEnd, ...]:
  """Reads "start-end;start-end"; empty text means the whole gene."""
  if not text:
    return ((start, end),)
  pairs = (part.split("-") for part in str(text).split(";"))
  return tuple((int(a), int(b)) for a, b in pairs)
