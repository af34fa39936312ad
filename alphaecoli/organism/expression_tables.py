"""Tables as quantification tools and people write them: separators, headers, columns, numbers."""

import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from alphaecoli.errors import DataError
from alphaecoli.genomics.expression import EMPTY, NUMBER, parse_numbers, unit_of_counter
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.quality import QualityReport, shown
from alphaecoli.organism.tables import ONLY, Table, read_cells

LOGGER = logging.getLogger(__name__)
WHAT = "an expression table: a gene's name, then a column a sample"

# Column names compare in lower case, letters and digits alone.
FORMATS = {
  "Salmon": {"name", "length", "effectivelength", "tpm", "numreads"},
  "kallisto": {"targetid", "length", "efflength", "estcounts", "tpm"},
  "RSEM": {"effectivelength", "expectedcount", "tpm", "fpkm"},
  "StringTie": {"geneid", "reference", "strand", "start", "end", "coverage", "fpkm", "tpm"},
  "Ballgown": {"tid", "chr", "strand", "start", "end", "cov", "fpkm"},
  "Cufflinks": {"trackingid", "classcode", "locus", "fpkm"},
  "featureCounts": {"geneid", "chr", "start", "end", "strand", "length"},
}
# Words of --values for columns of one sample, in order of preference.
QUANTITIES = {
  "tpm": "tpm", "transcriptspermillion": "tpm", "log2tpm": "log2tpm", "log2tpm1": "log2tpm",
  "fpkm": "fpkm", "rpkm": "fpkm", "expectedcount": "counts", "estcounts": "counts",
  "estimatedcounts": "counts", "numreads": "counts", "counts": "counts", "count": "counts",
  "rawcounts": "counts", "rawcount": "counts", "readcounts": "counts", "readcount": "counts",
  "reads": "counts", "nreads": "counts", "cpm": "counts",
}  # fmt: skip
_FEW_ROWS, _MANY_ROWS = 5, 500  # that say something of a column; in which counts repeat
_LABELS = ("tpm", "log2tpm", "fpkm", "rpkm", "count", "counts", "cpm")  # at either end of a name
# Of what stands beside samples.
_INFORMATION = re.compile(
  r"(effective|eff|gene|transcript|cds|protein)?(length|size)(bp|nt|aa|kb)?|width|"
  r"(mw|molecularweight|molecularmass)(kda|da)?|(transcription|translation)?(start|end|stop)"
  r"(position)?|begin|left|right|from|to|tss|tts|tssid|pos|position|midpoint|coordinate|chr|chrom|"
  r"chromosome|contig|replicon|seqid|seqname|locus|strand|frame|score|(mean)?(cov|coverage)|"
  r"numexons|exons|gc|gccontent|percentgc|isopct|(ncbi|entrez)?(gene)?id|ncbi|entrez|pid|taxid|tid|"
  r"(gene)?(bio)?type|"
  r"feature|classcode|nearestrefid|fpkm(conflo|confhi|status)|description|product|index|rank|"
  r"unnamed0|(pme|posterior|isopctfrom).*|.*(ci(lower|upper)bound|quartilevariation)"
)
# Of what sums up the samples beside it.
_SUMMARY = re.compile(r"(mean|average|avg|median|sd|std|stdev|stddev|sem|cv|variance)(tpm|of.*)?")
_COMPARISON = (
  "log2foldchange", "log2fc", "logfc", "foldchange", "lfc", "fc", "padj", "adjpval", "pvalue",
  "pval", "qvalue", "qval", "fdr", "basemean", "aveexpr", "lfcse",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Quantities:
  """Values of an expression table, as they are written.

  Attributes:
    format: the tool that writes such columns; "" where any may.
    unit: as --values calls it, where columns or rows say so, else None.
    names: gene's name in each row.
    samples: names of the columns.
    values: NaN where unknown or not a number.
    bad: number of cells that are not unknown and no finite number, by column.
  """

  format: str
  unit: str | None
  names: tuple[str, ...]
  samples: tuple[str, ...]
  values: Float64[np.ndarray, "R D"]
  bad: tuple[int, ...]


def read_quantities(
  path: Path,
  sample: str,
  values: str | None,
  is_gene: Callable[[str], bool],
  report: QualityReport,
) -> Quantities:
  """Reads the samples of a table; columns that are no samples are left out, and said.

  The name of a gene is in the first column, unless another has names of genes and that has few. A
  table with a column of TPM, FPKM or counts, as tools write one a sample, has that one sample.

  Args:
    path: file to read, plain or packed.
    sample: name of the sample where the table has one and does not name it.
    values: unit that the user gave; None where none was given.
    is_gene: whether the annotation has a gene of a name.
    report: counter of columns and rows that are left out.

  Raises:
    DataError: no table; its columns can not be told apart, or contradict `values`.
  """
  table = read_cells(path, WHAT, is_gene)
  if len(table.columns) == 1:
    raise DataError(f"{path}: one column, {shown(table.columns)}; expected {WHAT}")
  at = _name_column(path, table, is_gene)
  rows = [cells for _, cells in table.rows if not (cells[0] + cells[at]).startswith("__")]
  summaries = len(table.rows) - len(rows)
  report.count("summary row of htseq-count, no gene", summaries)
  if not rows:
    raise DataError(f"{path}: no row of a gene; expected {WHAT}")
  name = next((f for f, columns in FORMATS.items() if columns <= set(map(_key, table.columns))), "")
  chosen, unit = _samples(path, sample, table.columns, at, rows, name, values)
  left = [c for i, c in enumerate(table.columns) if i != at and i not in chosen]
  if left:
    what = f"column of {name or 'the expression table'} that is no sample"
    for column in left:
      report.count(what, 1, column[:40])
    LOGGER.info("%s: left out are columns that are no samples: %s", path, shown(left, 8))
  twice = [n for n in chosen.values() if list(chosen.values()).count(n) > 1 or not n]
  if twice:
    n = list(chosen.values()).count(twice[0])
    raise DataError(f"{path}: {twice[0]!r} heads {n} columns; name each once")
  counted = "htseq-count" if summaries else name
  whole = "counts" in (values, unit) or counted in ("htseq-count", "featureCounts")
  numbers, bad = parse_numbers(path, [[row[i] for row in rows] for i in chosen], whole)
  if unit is None and counted in ("htseq-count", "featureCounts"):
    unit = unit_of_counter(path, counted, numbers, values)
  if unit is None and values is None:
    _check_file_name(path)
  names = tuple(row[at] for row in rows)
  return Quantities(name, unit, names, tuple(chosen.values()), numbers, bad)


def _samples(
  path: Path,
  sample: str,
  columns: Sequence[str],
  at: int,
  rows: Sequence[Sequence[str]],
  name: str,
  values: str | None,
) -> tuple[dict[int, str], str | None]:
  """Returns the columns that are samples, with the samples' names, and their unit if they say it.

  Raises:
    DataError: none is, or they can not be told from others.
  """
  compared = [c for c in columns if _key(c) in _COMPARISON]
  if compared:
    raise DataError(
      f"{path}: {shown(compared)}: a table of comparisons; give the expression of each sample"
    )
  others = [i for i, c in enumerate(columns) if i != at and not _INFORMATION.fullmatch(_key(c))]
  numeric = [i for i in others if (columns[i] or i) and _mostly_numbers([row[i] for row in rows])]
  single = [i for i in numeric if not _SUMMARY.fullmatch(_key(columns[i]))]
  numeric = single or numeric  # a mean that stands alone is a sample
  if not numeric:
    raise DataError(f"{path}: no column of numbers is a sample ({shown(columns)}); expected {WHAT}")
  alone = {i: QUANTITIES[_key(columns[i])] for i in numeric if _key(columns[i]) in QUANTITIES}
  labelled = alone or {i: unit for i in numeric if (unit := _label(columns[i]))}
  units = sorted(set(labelled.values()), key=list(QUANTITIES.values()).index)
  if not labelled:
    return {i: sample if columns[i] == ONLY else columns[i] for i in numeric}, None
  unsure = [columns[i] for i in numeric if i not in labelled]
  if unsure:
    raise DataError(
      f"{path}: {shown(unsure)} beside {shown([columns[i] for i in labelled])}: which are "
      "samples can not be told; keep the gene's name and one column a sample"
    )
  unit = values or units[0]
  if unit not in units:
    raise DataError(
      f"{path}: --values {unit}, but its columns {shown([columns[i] for i in labelled])} are "
      f"{', '.join(units)}; give --values {units[0]}, or none"
    )
  of_unit = [i for i in labelled if labelled[i] == unit]
  if not alone:
    return {i: columns[i] for i in of_unit}, unit
  best = min(of_unit, key=lambda i: list(QUANTITIES).index(_key(columns[i])))
  LOGGER.info("%s%s: sample %s is its column %s", path, f", {name}" if name else "", sample,
              columns[best])  # fmt: skip
  return {best: sample}, unit


def _check_file_name(path: Path) -> None:
  """Checks that the name of a file whose columns say no unit does not say another one than TPM.

  Raises:
    DataError: it does.
  """
  words = re.split(r"[^a-z0-9]+", path.name.lower())
  named = {QUANTITIES[word] for word in words if word in _LABELS}
  if named and "tpm" not in named:
    unit = min(named)
    raise DataError(
      f"{path}: its name says {unit}, and its columns say nothing: give --values {unit}, or tpm if "
      "they are TPM"
    )


def _name_column(path: Path, table: Table, is_gene: Callable[[str], bool]) -> int:
  """Returns the column with the names of genes: the first, unless another has them instead."""
  rows = table.rows[:: len(table.rows) // 1000 + 1]

  def share(column: int) -> float:
    return sum(is_gene(cells[column]) for _, cells in rows) / len(rows)

  if share(0) >= 0.5:
    return 0
  likely = [i for i in range(1, len(table.columns)) if any(is_gene(c[i]) for _, c in rows[:50])]
  best = max(likely, key=share, default=0)
  if not best or share(best) < 0.5:
    return 0
  LOGGER.info("%s: genes are named by its column %r", path, table.columns[best])
  return best


def _mostly_numbers(cells: Sequence[str]) -> bool:
  """Returns whether at least half of the cells that hold something are numbers."""
  written = [cell for cell in cells if cell not in EMPTY]
  return 2 * sum(NUMBER.fullmatch(cell) is not None for cell in written) >= len(written)


def _key(column: str) -> str:
  """Returns a column's name as names compare."""
  return re.sub(r"[^a-z0-9]", "", column.lower())


def _label(column: str) -> str | None:
  """Returns the unit that a name such as S1_TPM or count.S1 has at one of its ends."""
  words = re.split(r"[^a-z0-9]+", column.lower())
  return next((QUANTITIES[w] for w in (words[-1], words[0]) if w in _LABELS), None)


def without_facts(
  path: Path,
  found: Quantities,
  rows: Int64[np.ndarray, "R"],
  genes: Sequence[Gene],
  report: QualityReport,
) -> Quantities:
  """Leaves out columns of what is known of genes, and is not measured in a sample.

  Raises:
    DataError: no other column is left.
  """
  at = rows >= 0
  known = [genes[row] for row in rows[at]]
  lengths = [[g.transcript_bp for g in known], [g.end - g.start for g in known]]
  residues = [[g.transcript_bp // 3 - 1 for g in known], [g.transcript_bp // 3 for g in known]]
  places = [[g.start for g in known], [g.start + 1 for g in known], [g.end for g in known]]
  facts = np.array([*lengths, *residues, *places], np.float64)
  kept = []
  for column, values in enumerate(found.values.T):
    if what := _fact(values, values[at], facts):
      LOGGER.warning("%s: column %s holds %s, and is no sample", path, found.samples[column], what)
      report.count("column of the expression table that is no sample", 1, found.samples[column])
    else:
      kept.append(column)
  if not kept:
    raise DataError(f"{path}: its numbers are lengths or positions of genes; no column is a sample")
  return dataclasses.replace(
    found,
    samples=tuple(found.samples[column] for column in kept),
    values=found.values[:, kept],
    bad=tuple(found.bad[column] for column in kept),
  )


def _fact(
  values: Float64[np.ndarray, "R"], of_genes: Float64[np.ndarray, "G"], facts: np.ndarray
) -> str:
  """Says what a column's numbers are that are no expression, told by the numbers alone; else ""."""
  written = values[~np.isnan(values)]
  n = np.count_nonzero(~np.isnan(of_genes))
  if n >= _FEW_ROWS and (facts == of_genes).sum(axis=1).max() >= 0.9 * n:
    return "lengths or positions of genes"
  if len(values) >= _FEW_ROWS and values[0] in (0, 1) and (np.diff(values) == 1).all():
    return "numbers of rows"
  if len(written) >= _FEW_ROWS and set(written.tolist()) == {0.0, 1.0}:
    return "0 and 1 alone"
  # Of so many genes some have the same count.
  whole = len(written) >= _MANY_ROWS and bool((written % 1 == 0).all())
  return "identifiers" if whole and len(np.unique(written)) == len(written) else ""


def check_alike(path: Path, found: Quantities, unit: str) -> None:
  """Checks that no column has whole numbers alone where others have fractions, but for counts.

  Raises:
    DataError: some have.
  """
  values = found.values
  enough = np.count_nonzero(values > 0, axis=0) >= _FEW_ROWS
  fractions = np.count_nonzero(values % 1 > 0, axis=0)  # not of NaN
  whole = enough & (fractions == 0)
  mixed = enough & (2 * fractions > np.count_nonzero(values > 0, axis=0))
  if unit != "counts" and whole.any() and mixed.any():
    names = [name for name, chosen in zip(found.samples, whole, strict=True) if chosen]
    raise DataError(
      f"{path}: {shown(names)} has whole numbers alone, other columns fractions: remove what is no "
      "sample, or give samples of another unit in a file of their own"
    )
