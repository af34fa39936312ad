"""Records of one chromosome, whichever files they were read from."""

import dataclasses
from pathlib import Path

from alphaecoli.genomics.expression import ExpressionTable
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.sequence import Contig


@dataclasses.dataclass(frozen=True, slots=True)
class Gene:
  """A gene on the circle, 0-based and half-open; `end` may pass the origin.

  Attributes:
    id: RegulonDB's or EcoCyc's identifier.
    name: such as thrA.
    locus_tag: the b-number, "" if there is none.
    start: first base, below the chromosome's length.
    end: one past the last base, at most start + length.
    strand: +1, -1 or 0 (unknown).
    type: RegulonDB's gene type.
    fragments: intervals of an interrupted gene, within start to end; () if it is whole.
  """

  id: str
  name: str
  locus_tag: str
  start: int
  end: int
  strand: int
  type: str
  fragments: tuple[tuple[int, int], ...]

  @property
  def transcript_bp(self) -> int:
    """Bases of the gene; of its fragments alone where it is interrupted."""
    return sum(b - a for a, b in self.fragments) if self.fragments else self.end - self.start


@dataclasses.dataclass(frozen=True, slots=True)
class Operon:
  """An operon on the circle, 0-based and half-open; `gene_ids` in order of appearance."""

  id: str
  name: str
  start: int
  end: int
  strand: int
  gene_ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
  """A high-throughput data set: its name without prefix and its growth condition fields."""

  name: str
  conditions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class GenomeRecords:
  """What a dump says about one chromosome.

  Attributes:
    contig: the chromosome.
    genes: placed genes of the wanted types, in file order.
    operons: None where the dump has no operonDatamart.
    datasets: growth conditions by data set; empty where the dump has none.
    expression: None where the dump has no geneExpression, or no usable data set.
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
