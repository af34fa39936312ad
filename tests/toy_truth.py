"""The toy chromosome's truth: what a reader must end with, worked out by hand.

Positions are 0-based and half-open; `end` may pass the origin.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ToyGene:
  id: str
  name: str
  locus_tag: str
  start: int
  end: int
  strand: int
  type: str = "mRNA"
  fragments: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class ToyOperon:
  id: str
  start: int
  end: int
  strand: int
  gene_ids: tuple[str, ...]


def kept_genes(length: int) -> list[ToyGene]:
  """The genes a reader keeps, in the order of the file."""
  return [
    ToyGene("T01", "aceA", "b0001", length - 100, length + 50, 1),  # across the origin
    ToyGene("T02", "thrA", "b0002", 100, 400, 1),
    ToyGene("T03", "thrB", "b0003", 390, 700, 1),  # overlaps thrA, 10 bp, same strand
    ToyGene("T04", "revA", "b0004", 650, 900, -1),  # overlaps thrB, 50 bp, other strand
    ToyGene("T07", "strN", "b0007", 1200, 1500, -1),  # positions are strings in the file
    ToyGene("T08", "noBn", "", 1600, 1900, 1),
    ToyGene("T09", "frag", "b0009", 2000, 2600, 1, "pseudo", ((2000, 2200), (2400, 2600))),
    ToyGene("T10", "tail", "b0010", 2700, 3000, 1),  # never measured
    ToyGene("T11", "noSt", "b0011", 3100, 3200, 0),  # no strand
    ToyGene("T13", "opWi", "b0013", length - 600, length - 300, -1),
    ToyGene("T14", "wrpW", "b0014", length - 300, length - 150, 1),
  ]


def kept_operons(length: int) -> list[ToyOperon]:
  """The operons a reader keeps, with the ids that geneDatamart knows and does not exclude."""
  return [
    ToyOperon("O1", 100, 700, 1, ("T02", "T03")),
    ToyOperon("O2", 650, 900, -1, ("T04",)),
    ToyOperon("O3", length - 300, length + 50, 1, ("T14", "T01")),  # across the origin
    ToyOperon("O4", 1200, 1500, 0, ("T07",)),  # no strand; its other gene is unknown
    ToyOperon("O5", 2700, 3000, 1, ("T10",)),  # its other gene is a phantom
    ToyOperon("O6", 1600, 2600, 1, ("T08", "T09")),  # no positions: from its first to last gene
  ]


# Values that a reader must end with: TPM, NaN where unknown.
TPM: dict[str, dict[str, float]] = {
  # thrA has two documents, 100 and 300: their mean. T11 is an explicit null.
  "ERR_TPMS": {
    "T01": 1000, "T02": 200, "T03": 50, "T04": 25.5, "T07": 0.5, "T08": 75, "T09": 400,
    "T13": 10, "T14": 5,
  },
  # Never an explicit 0, so the absent key of T03 reads 0. T14 is an explicit null.
  "ERR_DROP": {"T01": 10, "T02": 20, "T03": 0, "T04": 30},
  # Writes a 0 for T02, so the absent key of T03 is unknown.
  "ERR_EXPL": {"T01": 10, "T02": 0, "T04": 30, "T07": 40},
  # FPKM 10 20 30 40 of 100.
  "ERR_FPKMS": {"T01": 1e5, "T02": 2e5, "T03": 3e5, "T04": 4e5},
  # 150/150 bp, 600/300, 500/250, 2000/400 (the fragments of T09 alone): 1 2 2 5 of 10.
  "ERR_COUNTED": {"T01": 1e5, "T02": 2e5, "T04": 2e5, "T09": 5e5},
  # Sums to 385,262,028.
  "ERR_HUGE": {"T01": 5e5, "T02": 2.5e5, "T03": 2.5e5},
  # NaN, -5, infinite and "abc" are not values.
  "ERR_BAD": {"T07": 10, "T08": 20, "T09": 30},
  # One gene only: no unit reaches MIN_GENES_PER_UNIT.
  "ERR_FEW": {},
}  # fmt: skip
RESCALED = ("ERR_HUGE",)

CONDITIONS = {
  "ERR_TPMS": {"medium": "M9", "temperature": "37", "otherTerms": "glucose; shaken"},
  "ERR_DROP": {"medium": "M9", "temperature": "42"},
  "ERR_EXPL": {"medium": "LB", "temperature": "37"},
  "ERR_FPKMS": {},
}

# What geneDatamart holds besides the genes that are kept.
SKIPPED_GENES = {"phantom": "T05", "null positions": "T06", "outside the chromosome": "T12"}
