"""Expression of genes by samples, from tables of TPM, counts, FPKM or log2(TPM + 1)."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from alphaecoli.errors import DataError
from alphaecoli.genomics.expression import EMPTY, ExpressionTable, check_scale, to_tpm
from alphaecoli.genomics.genes import Dataset, Gene
from alphaecoli.genomics.quality import LEAST_MATCH, QualityReport, check_names_match, shown
from alphaecoli.organism.expression_tables import (
  Quantities,
  check_alike,
  read_quantities,
  without_facts,
)
from alphaecoli.organism.genes import NAME_KINDS, NO_MATCH, GeneNames
from alphaecoli.organism.tables import read_cells
from alphaecoli.schema import DataConfig

LOGGER = logging.getLogger(__name__)
# Words of --values; what each is once logarithms are undone, as `to_tpm` calls it.
UNITS = {"tpm": "tpm", "counts": "count", "fpkm": "fpkm", "log2tpm": "tpm"}
_WHOLE_GENOME, _MOST_GENES = 500, 0.8  # genes of an annotation, and their share, that sums need
_FEW_TPM = 1e5  # TPM of a whole transcriptome sum to 1e6
_ENDINGS = re.compile(
  r"\.(gz|xz|bz2|txt|tsv|tab|csv|sf|ctab|genes\.results|isoforms\.results)$", re.IGNORECASE
)
# Names that tools give their one file, whatever the sample is: its folder then names the sample.
_ANY_SAMPLE = ("quant", "quant.genes", "abundance", "t_data", "gene_abund", "gene_abundances")
# What aligners and counters add to a sample's name.
_ADDED = re.compile(
  r"([._-](bam|sam|cram|sort|sorted|dedup|markdup|trimmed|fastq|fq|gz|bw|txt|tsv|csv|sf|quant|tpm|"
  r"fpkm|counts?|htseq|results|genes))+$"
)


def read_expression(
  paths: Sequence[Path],
  values: str | None,
  genes: list[Gene],
  elsewhere: Sequence[Gene],
  names: GeneNames,
  data: DataConfig,
  report: QualityReport,
) -> ExpressionTable | None:
  """Reads tables of genes by samples into TPM.

  Rows match genes by locus tag, else ID, else old locus tag, else a name that one gene has alone.
  Rows of one gene add up. Empty cells and NA are unknown; what is no number, negative or infinite
  is counted and unknown too. Counts and FPKM become TPM over the genes of all contigs. A sample
  with fewer than `data.min_genes_per_unit` values on all contigs is left out; TPM of half of the
  contig's genes are enough too.

  Args:
    paths: tables, plain or packed; with other samples each.
    values: unit, a key of `UNITS`; None: as the columns say, else TPM.
    genes: rows of the result.
    elsewhere: genes of the genome's other contigs.
    names: names by which the tables may call the genes.
    data: thresholds.
    report: counter of rows that match no gene, bad values and converted samples.

  Returns:
    None where no sample is usable.

  Raises:
    DataError: not such a table, or of another unit; or fewer than half of its rows match a gene.
  """
  others = GeneNames(elsewhere, set())
  everything = [*genes, *elsewhere]
  columns: dict[str, Float64[np.ndarray, "G"] | None] = {}
  units: dict[str, None] = {}
  for path in paths:
    found = read_quantities(
      path,
      sample_name(path),
      values,
      lambda name: names.find(name) != NO_MATCH or others.find(name) != NO_MATCH,
      report,
    )
    twice = [name for name in found.samples if name in columns]
    if twice:
      raise DataError(f"{path}: an earlier file has a sample {twice[0]!r} too; name each once")
    rows = _match(path, found.names, names, others, len(genes), report)
    unit = values or found.unit or "tpm"
    found = without_facts(path, found, rows, everything, report)
    check_alike(path, found, unit)
    units[unit] = None
    complete = len(everything) >= _WHOLE_GENOME
    complete &= len(np.unique(rows[rows >= 0])) >= _MOST_GENES * len(everything)
    given = values is not None or found.unit is not None
    check_scale(path, unit, given, found.values, complete, data.max_tpm_sum)
    if values is None and unit != "tpm":
      LOGGER.info("%s: read as %s, as its columns or rows say", path, unit)
    by_gene = _by_gene(found, rows, unit, everything, report)
    for name, value in zip(found.samples, by_gene.T, strict=True):
      columns[name] = _tpm(name, value, unit, everything, len(genes), complete, data, report)
  result = _table(columns, genes, "+".join(units), report)
  if result.datasets:
    return result
  LOGGER.warning(
    "no expression: no sample of %s has %d genes with values; the expression head will not be "
    "trained",
    ", ".join(map(str, paths)),
    data.min_genes_per_unit,
  )
  report.count("no usable sample: expression unknown")
  return None


def sample_name(path: Path) -> str:
  """Returns the name of a file's one sample: the file's, or its folder's where a tool named it."""
  name = path.name
  while _ENDINGS.search(name):
    name = _ENDINGS.sub("", name)
  return path.resolve().parent.name if name.lower() in _ANY_SAMPLE else name


def _match(
  path: Path,
  row_names: Sequence[str],
  names: GeneNames,
  others: GeneNames,
  n_genes: int,
  report: QualityReport,
) -> Int64[np.ndarray, "R"]:
  """Returns the gene of each row: its place, beyond `n_genes` on another contig; -1 if none.

  Raises:
    DataError: fewer than half of the rows match a gene of the annotation.
  """
  rows = np.full(len(row_names), -1)
  matched: Counter[str] = Counter()
  unknown = []
  for i, name in enumerate(row_names):
    found, other = names.find(name), others.find(name)
    if not isinstance(found, str):
      rows[i] = found[0]
      matched[found[1]] += 1
      continue
    if not isinstance(other, str):
      rows[i] = n_genes + other[0]
    if found == NO_MATCH and other == NO_MATCH:
      unknown.append(name)
    report.count(f"expression row skipped: {found}", 1, name[:40])
  report.total("expression rows", len(row_names))
  for kind in NAME_KINDS:
    if matched[kind]:
      report.total(f"expression rows matched by {kind}", matched[kind])
  unmatched = dict.fromkeys(unknown)
  check_names_match(path, set(row_names), unmatched, names.examples().split(", "))
  return rows


def _by_gene(
  found: Quantities,
  rows: Int64[np.ndarray, "R"],
  unit: str,
  genes: Sequence[Gene],
  report: QualityReport,
) -> Float64[np.ndarray, "G D"]:
  """Adds up the rows of each gene, as plain amounts; NaN where no row has a value."""
  negative = found.values < 0
  for name, bad, below in zip(found.samples, found.bad, negative.sum(axis=0), strict=True):
    reason = f"bad {UNITS[unit]}: not a number, negative or infinite"
    report.count(reason, bad + int(below), dataset=name)
  values = np.where(negative, np.nan, found.values)
  values = np.exp2(values) - 1 if unit == "log2tpm" else values
  known = (~np.isnan(values)) & (rows >= 0)[:, None]
  total, count = np.zeros((2, len(genes), values.shape[1]))
  np.add.at(total, rows[rows >= 0], np.where(known, values, 0)[rows >= 0])
  np.add.at(count, rows[rows >= 0], known[rows >= 0])
  for row in np.flatnonzero((count > 1).any(axis=1)).tolist():
    report.count("expression rows of one gene: added up", 1, genes[row].locus_tag or genes[row].id)
  return np.where(count > 0, total, np.nan)


def _tpm(
  name: str,
  value: Float64[np.ndarray, "N"],
  unit: str,
  genes: Sequence[Gene],
  n_genes: int,
  complete: bool,
  data: DataConfig,
  report: QualityReport,
) -> Float64[np.ndarray, "G"] | None:
  """Returns a sample's TPM on the contig, whose `n_genes` genes come first; None if too few."""
  known = ~np.isnan(value)
  here = np.count_nonzero(known[:n_genes])
  absolute = UNITS[unit] == "tpm"  # means what it means whatever the other genes are
  enough = np.count_nonzero(known) >= data.min_genes_per_unit or (absolute and 2 * here >= n_genes)
  if not enough or here == 0:
    report.count("data set left out: no unit with enough genes", dataset=name)
    return None
  if absolute and complete and 0 < np.nansum(value) < _FEW_TPM:
    report.count("data set whose TPM sum to less than 1e5: are they logarithms?", dataset=name)
  lengths = np.array([gene.transcript_bp for gene in genes], np.float64)
  tpm = to_tpm(UNITS[unit], value, name, lengths, data.max_tpm_sum, report)
  return None if tpm is None else tpm[:n_genes]


def _table(
  columns: dict[str, Float64[np.ndarray, "G"] | None],
  genes: Sequence[Gene],
  unit: str,
  report: QualityReport,
) -> ExpressionTable:
  """Gathers the samples that are usable, and counts genes without a value in any."""
  usable = {name: tpm for name, tpm in columns.items() if tpm is not None}
  tpm = np.stack(list(usable.values()), axis=1) if usable else np.zeros((len(genes), 0))
  report.total("samples with expression", len(usable))
  for row in np.flatnonzero(np.isnan(tpm).all(axis=1)).tolist():
    report.count("gene without expression", 1, genes[row].locus_tag or genes[row].id)
  left_out = tuple(name for name in columns if name not in usable)
  return ExpressionTable(tuple(gene.id for gene in genes), tuple(usable), tpm, left_out, unit)


def read_samples(path: Path, samples: Sequence[str], report: QualityReport) -> list[Dataset]:
  """Reads growth conditions: a table with a sample's name, then one column per condition field.

  A name that differs from a sample's only by what tools add, such as .bam, means that sample. The
  names are in the first column, unless another has those of more samples.

  Args:
    path: table, plain or packed.
    samples: names of all samples of the expression tables; empty where there are none.
    report: counter of rows without a sample, and samples without a row.

  Raises:
    DataError: not such a table, or it is of other samples.
  """
  table = read_cells(path, "a table of samples: name, then a column a growth condition")
  wanted = set(samples)
  every = range(len(table.columns))
  hits = [len({_plain(c[i]) for _, c in table.rows} & {_plain(s) for s in wanted}) for i in every]
  at = max(every, key=lambda i: hits[i])  # of equals the first
  if at:
    LOGGER.warning("%s: samples are named by its column %r", path, table.columns[at])
  ours, theirs = Counter(map(_plain, wanted)), Counter(_plain(c[at]) for _, c in table.rows)
  by_plain = {_plain(s): s for s in wanted if ours[_plain(s)] == theirs[_plain(s)] == 1}
  found: dict[str, Dataset] = {}
  unmatched = []
  for _, cells in table.rows:
    name = cells[at]
    sample = name if name in wanted else by_plain.get(_plain(name), name)
    if sample in found:
      report.count("sample listed twice", 1, name)
      continue
    if sample != name:
      report.count("sample named otherwise in the sheet", 1, f"{name} for {sample}")
      LOGGER.info("%s: %s is read as the sample %s", path, name, sample)
    elif wanted and sample not in wanted:
      report.count("sample sheet row that matches no sample", 1, name[:40])
      unmatched.append(name)
    fields = [(c, v) for i, (c, v) in enumerate(zip(table.columns, cells, strict=True)) if i != at]
    found[sample] = Dataset(sample, {key: value for key, value in fields if value not in EMPTY})
  lacking = [sample for sample in samples if sample not in found]
  for sample in lacking:
    report.count("sample without a row in the sample sheet", dataset=sample)
  if unmatched or lacking:
    _say_unmatched(path, unmatched, len(found), lacking, len(samples))
  return list(found.values())


def _say_unmatched(
  path: Path, unmatched: list[str], n_rows: int, lacking: list[str], n_samples: int
) -> None:
  """Warns of rows and samples that do not match.

  Raises:
    DataError: most rows and most samples do not.
  """
  text = (
    f"{path}: {len(unmatched)} of {n_rows} rows match no sample ({shown(unmatched) or 'none'}), "
    f"{len(lacking)} of {n_samples} samples have no row ({shown(lacking) or 'none'})"
  )
  if len(unmatched) > LEAST_MATCH * n_rows and len(lacking) > LEAST_MATCH * n_samples:
    raise DataError(f"{text}; is it the sheet of these samples?")
  LOGGER.warning("%s", text)


def _plain(name: str) -> str:
  """Returns a sample's name without folders, what tools add, and what R makes of its characters."""
  name = re.split(r"[/\\]", name.lower())[-1]
  name = re.sub(r"[^a-z0-9]+", "_", _ADDED.sub("", name)).strip("_")
  return re.sub(r"^x(?=\d)", "", name)
