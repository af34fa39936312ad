"""Records of genes, operons and data sets, and the placement of genes on contigs."""

import dataclasses
import functools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from alphaecoli.errors import DataError
from alphaecoli.genomics.expression import ExpressionTable
from alphaecoli.genomics.intervals import StartEnd, covering_interval, unwrap
from alphaecoli.genomics.quality import LEAST_MATCH, QualityReport, shown
from alphaecoli.genomics.sequence import Contig

LOGGER = logging.getLogger(__name__)

STRANDS = {"+": 1, "forward": 1, "-": -1, "reverse": -1}  # as dumps and tables write them
# Evidence of an operon: from experiments; of other kinds alone; none is given.
EXPERIMENTAL, OTHER_EVIDENCE, NO_EVIDENCE = "experimental", "other", "none"
MAX_OUTSIDE = 0.25  # fraction of genes outside the contig that shows a wrong genome


@dataclasses.dataclass(frozen=True, slots=True)
class Gene:
  """A gene, 0-based and half-open on its contig; an end beyond the contig's length wraps around.

  Attributes:
    id: identifier in RegulonDB or EcoCyc; in annotations the ID attribute, else the locus tag, else
      the name, else where it lies.
    name: gene symbol, such as thrA.
    locus_tag: the b-number in E. coli K-12; "" if there is none.
    start: first base, below the contig's length.
    end: base after the last one, at most start + length.
    strand: +1, -1 or 0 (unknown).
    type: RegulonDB's gene type, or the type of the annotated feature.
    fragments: intervals of an interrupted gene, within start to end; () if it is whole.
    contig: name of the contig; "" in the records of a dump, which hold one.
    biotype: NCBI's gene_biotype; "" if there is none.
    old_locus_tags: locus tags of earlier annotations.
    operon: name of its operon in the annotation; "" if none is given.
    line: line of the file, from 1; in GenBank files the number of the feature in its record.
  """

  id: str
  name: str
  locus_tag: str
  start: int
  end: int
  strand: int
  type: str
  fragments: tuple[StartEnd, ...] = ()
  contig: str = ""
  biotype: str = ""
  old_locus_tags: tuple[str, ...] = ()
  operon: str = ""
  line: int = 0

  @property
  def intervals(self) -> tuple[StartEnd, ...]:
    """Returns the intervals of the gene's bases: its fragments where it is interrupted."""
    return self.fragments or ((self.start, self.end),)

  @property
  def transcript_bp(self) -> int:
    """Returns the length of the transcript: the sum over the intervals."""
    return sum(end - start for start, end in self.intervals)

  def bases(self, length_bp: int) -> Int[np.ndarray, " n"]:
    """Returns the positions of the gene's bases on a contig of this length, wrapped, each once."""
    positions = [np.arange(start, end) for start, end in self.intervals]
    return np.unique(np.concatenate(positions) % length_bp)


@dataclasses.dataclass(frozen=True, slots=True)
class Operon:
  """An operon, 0-based and half-open.

  Attributes:
    id: identifier in the source.
    name: such as thrLABC.
    start: first base.
    end: base after the last one; beyond the chromosome's length where it passes the origin.
    strand: +1, -1 or 0 (unknown).
    gene_ids: its genes in order of appearance.
    evidence: experimental, other or none, of its transcription units.
  """

  id: str
  name: str
  start: int
  end: int
  strand: int
  gene_ids: tuple[str, ...]
  evidence: str = NO_EVIDENCE


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
  """A high-throughput data set: its name without prefix and its growth condition fields."""

  name: str
  conditions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class GenomeRecords:
  """Records of one chromosome, from a dump or from an organism's own files.

  Attributes:
    contig: the chromosome.
    genes: placed genes of the wanted types, in file order.
    operons: None where no operons are given.
    datasets: growth conditions by data set; empty where none are given.
    expression: None where no expression is given, or no usable data set.
    report: everything that was skipped or repaired.
    inputs: the files that were read, by collection.
  """

  contig: Contig
  genes: list[Gene]
  operons: list[Operon] | None
  datasets: list[Dataset]
  expression: ExpressionTable | None
  report: QualityReport
  inputs: dict[str, Path]


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
  """Genes of an annotation file.

  Attributes:
    genes: in the order of the file.
    circular: names of the contigs that are declared circular.
    path: the file.
    lengths: lengths of contigs in bp, of those that the file declares.
  """

  genes: tuple[Gene, ...]
  circular: frozenset[str]
  path: Path
  lengths: Mapping[str, int] = dataclasses.field(default_factory=dict)


def gene_kind(kind: str) -> str:
  """Returns a gene type in the form in which types compare: rRNA, rrna and rRNA_gene are one."""
  return kind.lower().removesuffix("_gene")


def place_id(gene: Gene) -> str:
  """Returns what a gene without any name is called: where it lies, 1-based and inclusive."""
  return f"{gene.contig}:{gene.start + 1}-{gene.end}"


def place_genes(
  annotation: Annotation, lengths: Mapping[str, int], circular: Mapping[str, bool]
) -> dict[str, list[Gene]]:
  """Sorts genes to the contigs of the FASTA; those that do not fit are counted and skipped.

  Args:
    annotation: genes to sort.
    lengths: length of each contig, in bp.
    circular: whether each contig is circular; on a linear one a gene may not pass the end.

  Raises:
    DataError: no gene lies on any contig; or fewer than half of the genes do, and the contigs that
      the annotation names are fewer than half of the genome; or most genes lie past their ends.
  """
  placed: dict[str, list[Gene]] = {name: [] for name in lengths}
  skipped: Counter[str] = Counter()
  foreign: Counter[str] = Counter()
  for gene in annotation.genes:
    reason = misfit(gene, lengths, circular)
    if gene.contig not in lengths:
      foreign[gene.contig] += 1
    elif reason is not None:
      skipped[reason] += 1
    else:
      length = lengths[gene.contig]
      placed[gene.contig].append(across_origin(gene, length) if circular[gene.contig] else gene)
  if foreign:
    skipped[f"on {shown(foreign)}, which is not in the FASTA"] = foreign.total()
  for reason, count in skipped.items():
    LOGGER.warning("%s: %d genes skipped: %s", annotation.path, count, reason)
  total, fitting = len(annotation.genes), sum(map(len, placed.values()))
  known = total - foreign.total()
  named_bp = sum(
    lengths[name] for name in {gene.contig for gene in annotation.genes} & set(lengths)
  )
  named = max(known / max(total, 1), named_bp / sum(lengths.values()))
  if not fitting or named < LEAST_MATCH or fitting < LEAST_MATCH * known:
    raise DataError(
      f"{annotation.path}: {f'{fitting} of {total} genes lie' if fitting else 'no gene lies'} on a "
      f"contig of the FASTA; the annotation names {shown(g.contig for g in annotation.genes)}, the "
      f"FASTA {shown(lengths)}: is it the annotation of this genome?"
    )
  return placed


def past_ends(annotation: Annotation, lengths: Mapping[str, int]) -> list[str]:
  """Returns the contigs whose end a gene passes, or joins to the start, and none begins after it.

  They are circular, although no file may say so.
  """
  passed: dict[str, bool] = {}
  for gene in annotation.genes:
    length = lengths.get(gene.contig, 0)
    if gene.start >= length > 0:
      passed[gene.contig] = False
    starts, ends = zip(*gene.intervals, strict=True)
    joined = len(starts) > 1 and 0 in starts and length in ends
    if joined or gene.start < length < gene.end <= gene.start + length:
      passed.setdefault(gene.contig, True)
  return [contig for contig in lengths if passed.get(contig)]


def misfit(gene: Gene, lengths: Mapping[str, int], circular: Mapping[str, bool]) -> str | None:
  """Returns why a gene does not fit the contigs of the genome; None where it does."""
  if gene.contig not in lengths:
    return f"on {shown([gene.contig])}, which is not in the FASTA"
  if gene.start >= lengths[gene.contig] or gene.end - gene.start > lengths[gene.contig]:
    return f"outside {gene.contig}"
  if gene.end > lengths[gene.contig] and not circular[gene.contig]:
    return f"past the end of {gene.contig}, which is linear"
  return None


def across_origin(gene: Gene, length_bp: int) -> Gene:
  """Returns a gene of a circular contig on the shortest interval that covers its fragments.

  That interval passes the origin where a gap between two fragments is wider than the distance from
  the last fragment over the origin to the first.
  """
  if gene.end > length_bp or not gene.fragments:
    return gene
  start, end = covering_interval(gene.fragments, length_bp)
  if start == gene.start:
    return gene
  fragments = tuple(unwrap(gene.fragments, start, length_bp))
  return dataclasses.replace(gene, start=start, end=end, fragments=fragments)


class ContigFeatures:
  """Genes and operons of one contig.

  Attributes:
    genes: genes of the contig.
    operons: intervals of its operons, 0-based and half-open; None where none were given.
  """

  def __init__(self, genes: Sequence[Gene] = (), operons: Sequence[StartEnd] | None = None):
    self.genes, self.operons = genes, operons

  @functools.cached_property
  def gene_bounds(self) -> Int[np.ndarray, "n 2"]:
    """Returns start and end of each gene."""
    return _as_array([(gene.start, gene.end) for gene in self.genes])

  @functools.cached_property
  def operon_bounds(self) -> Int[np.ndarray, "n 2"]:
    """Returns start and end of each operon."""
    return _as_array(self.operons or ())


def _as_array(bounds: Sequence[StartEnd]) -> Int[np.ndarray, "n 2"]:
  """Converts pairs to rows of starts and ends."""
  return np.array(list(bounds), np.int64).reshape(-1, 2)
