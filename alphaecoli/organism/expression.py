"""Expression of genes by samples, from a table of TPM or counts."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from alphaecoli.errors import DataError
from alphaecoli.genomics.expression import ExpressionTable, to_tpm
from alphaecoli.genomics.genes import Dataset, Gene
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.text import Table, read_table
from alphaecoli.organism.genes import NAME_KINDS, GeneNames
from alphaecoli.schema import DataConfig

LOGGER = logging.getLogger(__name__)
UNITS = {"tpm": "tpm", "counts": "count"}  # of --values, as regulondb.expression calls them
_EXPECTED = "an expression table: locus tag, then a column a sample"
_UNKNOWN = ("", "NA")
_FEATURE_COUNTS = ("Chr", "Start", "End", "Strand", "Length")  # columns 2 to 6 of its output
_FEW_TPM = 1e5  # TPM of a whole transcriptome sum to 1e6


def read_expression(
  path: Path,
  values: str,
  genes: list[Gene],
  names: GeneNames,
  data: DataConfig,
  report: QualityReport,
) -> ExpressionTable | None:
  """Reads a table of genes by samples into TPM.

  Rows match genes by locus tag, else ID, else old locus tag, else a name that one gene has alone.
  Rows of one gene are averaged. Empty cells and NA are unknown; what is no number, negative or
  infinite is counted and unknown too. A sample with fewer than `data.min_genes_per_unit` values is
  left out. Counts become TPM through the length of genes.

  Args:
    path: tab-separated file, plain or gzip.
    values: unit of the values: tpm or counts.
    genes: rows of the result.
    names: names by which the table may call them.
    data: thresholds.
    report: counter of rows that match no gene, bad values and converted samples.

  Returns:
    None where no sample is usable.

  Raises:
    DataError: not such a table, or none of its rows matches a gene.
  """
  table = read_table(path, _EXPECTED)
  first = _first_sample(path, table, report)
  samples = table.columns[first:]
  total = np.zeros((len(genes), len(samples)))
  count = np.zeros(total.shape, np.int64)
  matched: Counter[str] = Counter()
  for _, cells in table.rows:
    found = names.find(cells[0])
    if isinstance(found, str):
      report.count(f"expression row skipped: {found}", 1, cells[0])
      continue
    row, kind = found
    matched[kind] += 1
    value = _numbers(cells[first:], samples, UNITS[values], report)
    finite = ~np.isnan(value)
    total[row, finite] += value[finite]
    count[row] += finite
  _report_matches(path, table, names, matched, report)
  report.count("expression rows of one gene: mean", int((count.max(axis=1) > 1).sum()))
  mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
  result = _usable(mean, samples, UNITS[values], genes, data, report)
  measured = ~np.isnan(result.tpm).all(axis=1)
  report.total("samples with expression", len(result.datasets))
  for gene, has_value in zip(genes, measured, strict=True):
    if not has_value:
      report.count("gene without expression", 1, gene.locus_tag or gene.id)
  if result.datasets:
    return result
  LOGGER.warning(
    "no expression: no sample of %s has %d genes with values; the expression head will not be "
    "trained",
    path,
    data.min_genes_per_unit,
  )
  report.count("no usable sample: expression unknown")
  return None


def _first_sample(path: Path, table: Table, report: QualityReport) -> int:
  """Returns the index of the first column with values.

  Raises:
    DataError: there is none, or two samples share a name.
  """
  first = 1
  if table.columns[1:6] == _FEATURE_COUNTS:
    report.count("column of featureCounts that is no sample", 5)
    first = 6
  samples = table.columns[first:]
  if not samples:
    raise DataError(f"{path}: one column, {table.columns[0]!r}; expected {_EXPECTED}")
  twice = [name for name, n in Counter(samples).items() if n > 1 or not name]
  if twice:
    raise DataError(f"{path}: {twice[0]!r} heads {samples.count(twice[0])} columns; name each once")
  return first


def _numbers(
  cells: tuple[str, ...], samples: tuple[str, ...], unit: str, report: QualityReport
) -> Float64[np.ndarray, "D"]:
  """Parses the values of one row, NaN where unknown or unusable."""
  values = np.full(len(cells), np.nan)
  for column, cell in enumerate(cells):
    if cell in _UNKNOWN:
      continue
    try:
      value = float(cell)
    except ValueError:
      value = np.nan
    if 0 <= value < np.inf:
      values[column] = value
    else:
      reason = f"bad {unit}: not a number, negative or infinite"
      report.count(reason, 1, repr(cell), dataset=samples[column])
  return values


def _report_matches(
  path: Path, table: Table, names: GeneNames, matched: Counter[str], report: QualityReport
) -> None:
  """Counts how rows were matched.

  Raises:
    DataError: no row was matched.
  """
  report.total("expression rows", len(table.rows))
  for kind in NAME_KINDS:
    if matched[kind]:
      report.total(f"expression rows matched by {kind}", matched[kind])
  if not matched:
    theirs = ", ".join(cells[0] for _, cells in table.rows[:3])
    raise DataError(
      f"{path}: none of its {len(table.rows)} rows matches a gene by {', '.join(NAME_KINDS)}; it "
      f"names {theirs}, the annotation {names.examples()}"
    )
  missed = len(table.rows) - matched.total()
  if missed > matched.total():
    LOGGER.warning("%s: %d of %d rows match no gene", path, missed, len(table.rows))


def _usable(
  values: Float64[np.ndarray, "G D"],
  samples: tuple[str, ...],
  unit: str,
  genes: list[Gene],
  data: DataConfig,
  report: QualityReport,
) -> ExpressionTable:
  """Returns the TPM of the samples with enough values."""
  lengths = np.array([gene.transcript_bp for gene in genes], np.float64)
  names, columns = [], []
  for name, value in zip(samples, values.T, strict=True):
    if np.count_nonzero(~np.isnan(value)) < data.min_genes_per_unit:
      report.count("data set left out: no unit with enough genes", dataset=name)
      continue
    if unit == "tpm" and 0 < np.nansum(value) < _FEW_TPM:
      report.count("data set whose TPM sum to less than 1e5: are they logarithms?", dataset=name)
    tpm = to_tpm(unit, value, name, lengths, data.max_tpm_sum, report)
    if tpm is not None:
      names.append(name)
      columns.append(tpm)
  stacked = np.stack(columns, axis=1) if columns else np.zeros((len(genes), 0))
  return ExpressionTable(tuple(gene.id for gene in genes), tuple(names), stacked)


def read_samples(path: Path, report: QualityReport) -> list[Dataset]:
  """Reads growth conditions: a table with a sample's name, then one column per condition field.

  Raises:
    DataError: not such a table.
  """
  table = read_table(path, "a table of samples: name, then a column a growth condition")
  found: dict[str, Dataset] = {}
  for _, (name, *cells) in table.rows:
    if name in found:
      report.count("sample listed twice", 1, name)
      continue
    fields = zip(table.columns[1:], cells, strict=True)
    found[name] = Dataset(name, {key: value for key, value in fields if value not in _UNKNOWN})
  return list(found.values())
