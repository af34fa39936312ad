"""Tables as quantification tools and people write them: separators, headers, columns, numbers."""

import csv
import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from alphaecoli.errors import DataError
from alphaecoli.genomics.expression import NUMBER, UNKNOWN, parse_numbers, unit_of_counter
from alphaecoli.genomics.quality import QualityReport, shown
from alphaecoli.genomics.text import Table, open_text

LOGGER = logging.getLogger(__name__)
WHAT = "an expression table: a gene's name, then a column a sample"
_SEPARATORS = ("\t", ";", ",", " ")  # in the order in which they are tried
_ONLY = "values"  # name of the one column of numbers in a table without header
_STAR = ("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous")

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
_LABELS = ("tpm", "log2tpm", "fpkm", "rpkm", "count", "counts", "cpm")  # at either end of a name
# Of what stands beside samples.
_INFORMATION = re.compile(
  r"(effective|eff|gene|transcript)?length|width|size|(transcription|translation)?(start|end|stop)"
  r"(position)?|begin|left|right|from|to|tss|tts|tssid|pos|position|midpoint|coordinate|chr|chrom|"
  r"chromosome|contig|replicon|seqid|seqname|locus|strand|frame|score|(mean)?(cov|coverage)|"
  r"numexons|exons|gc|gccontent|percentgc|isopct|(ncbi|entrez)(gene)?id|taxid|tid|(gene)?(bio)?type|"
  r"feature|classcode|nearestrefid|fpkm(conflo|confhi|status)|description|product|index|rank|"
  r"unnamed0|(pme|posterior|isopctfrom).*|.*(ci(lower|upper)bound|quartilevariation)"
)
_COMPARISON = ("log2foldchange", "log2fc", "logfc", "padj", "pvalue", "fdr", "basemean", "lfcse")
_NAMES = re.compile(  # of the column with the names of genes
  r"|((ensembl|ncbi|entrez|stable|systematic|unique|target|tracking|transcript|gene|locus|feature|"
  r"bsu|b|orf|old)[ _.-]*)*(stable[ _.-]*)?(genes?|locus|loci|tags?|ids?|geneids?|names?|orfs?|"
  r"symbols?|targets?|features?|transcripts?|synonyms?|keys?|numbers?|identifiers?|accessions?)",
  re.IGNORECASE,
)


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
  names = tuple(row[at] for row in rows)
  return Quantities(name, unit, names, tuple(chosen.values()), numbers, bad)


def read_cells(path: Path, what: str, is_gene: Callable[[str], bool] | None = None) -> Table:
  """Reads a table with tabs, semicolons, commas or spaces between its cells.

  Comments above the header are skipped. A header one cell short, as R writes it, lacks the name of
  the first column. Empty cells after the last column, which trailing separators make, are dropped.

  Args:
    path: file to read, plain or packed.
    what: what is expected, for messages.
    is_gene: whether the annotation has a gene of a name: a table of genes may lack its header.

  Raises:
    DataError: missing, without rows, or a row has another number of cells; names the line.
  """
  with open_text(path, what) as file:
    lines = [
      (number, line.rstrip("\r\n").removeprefix("\ufeff"))
      for number, line in enumerate(file, start=1)
      if line.strip("\ufeff \t\r\n")
    ]
  if lines and re.fullmatch(r"sep=.?", lines[0][1], re.IGNORECASE):  # for Excel
    lines = lines[1:]
  comments = next((i for i, (_, line) in enumerate(lines) if line[0] != "#"), len(lines))
  try:
    separator = _separator([line for _, line in lines[comments:]])
    rows = [(number, _split(line, separator)) for number, line in lines[comments:]]
    above = _split(lines[comments - 1][1].lstrip("#"), separator) if comments else []
  except csv.Error as error:
    raise DataError(f"{path}: no table ({error}); expected {what}") from error
  header: list[str] | None = None
  if len(above) > 1 and rows and len(above) == len(rows[0][1]) and _is_data(rows[0][1]):
    header = above
  elif rows and is_gene is not None:
    header = _missing_header(path, *rows[0], is_gene)
  if header is None and rows:
    header, rows = rows[0][1], rows[1:]
  if header is None or not rows:
    raise DataError(f"{path}: no rows; expected {what}: a header line, then one line each")
  return _rectangular(path, header, rows, separator)


def _rectangular(
  path: Path, header: list[str], rows: list[tuple[int, list[str]]], separator: str
) -> Table:
  """Makes header and rows equally long.

  Raises:
    DataError: they can not be.
  """
  trailing = all(len(cells) > 1 and not cells[-1] for _, cells in rows)
  extra = {len(cells) - len(header) for _, cells in rows}
  named = _NAMES.fullmatch(header[0]) is not None
  if extra == {1} and not (trailing and named):
    if trailing or named or separator == ",":
      raise DataError(
        f"{path}, line {rows[0][0]}: {len(header) + 1} cells; the header has {len(header)}: name "
        "every column, the first one 'gene'"
        + (", and write decimal points, not commas" if separator == "," else "")
      )
    header = ["", *header]
  elif extra == {-1} and not header[-1]:
    header = header[:-1]
  while (
    len(header) > 2 and not header[-1] and all(not "".join(c[len(header) - 1 :]) for _, c in rows)
  ):
    header = header[:-1]
  table = []
  for number, cells in rows:
    if len(cells) < len(header) or any(cells[len(header) :]):
      raise DataError(f"{path}, line {number}: {len(cells)} cells; the header has {len(header)}")
    table.append((number, tuple(cells[: len(header)])))
  return Table(tuple(header), tuple(table))


def _missing_header(
  path: Path, number: int, cells: list[str], is_gene: Callable[[str], bool]
) -> list[str] | None:
  """Returns names for the columns where the first line is a gene's; None where it is a header.

  Raises:
    DataError: it may be either, or there are several samples without a name.
  """
  numbers = [i for i, cell in enumerate(cells) if i and NUMBER.fullmatch(cell)]
  known = is_gene(cells[0]) or cells[0].startswith("__") or cells[0] in _STAR
  if not numbers or not (known or _is_data(cells)) or _NAMES.fullmatch(cells[0]):
    return None
  if len(numbers) > 1 or not known:
    raise DataError(
      f"{path}, line {number}: {shown(cells)}: no header line? add one: gene, then the names of "
      "the samples (of STAR's ReadsPerGene.out.tab keep the one column of your library's strand)"
    )
  LOGGER.info("%s has no header line; its first line is read as a gene", path)
  return ["gene", *(_ONLY if i in numbers else f"column {i + 1}" for i in range(1, len(cells)))]


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
  if not numeric:
    raise DataError(f"{path}: no column of numbers is a sample ({shown(columns)}); expected {WHAT}")
  alone = {i: QUANTITIES[_key(columns[i])] for i in numeric if _key(columns[i]) in QUANTITIES}
  labelled = alone or {i: unit for i in numeric if (unit := _label(columns[i]))}
  units = sorted(set(labelled.values()), key=list(QUANTITIES.values()).index)
  if not labelled:
    return {i: sample if columns[i] == _ONLY else columns[i] for i in numeric}, None
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


def _separator(lines: Sequence[str]) -> str:
  """Returns what stands between the cells of the rows, by a number of cells that is the same."""
  body = lines[1:51] or lines[:1]
  counts = {s: [len(_split(line, s)) for line in body] or [0] for s in _SEPARATORS}
  regular = [s for s, n in counts.items() if min(n) > 1 and len(set(n)) == 1]
  likely = [s for s, n in counts.items() if min(n) > 1]
  if "\t" in likely or not likely:
    return "\t"
  return max(regular or likely, key=lambda s: counts[s][0])  # of equals the first


def _split(line: str, separator: str) -> list[str]:
  """Splits a line into cells, without the quotes and spaces around them."""
  spaced = separator == " "
  cells = next(csv.reader([line.strip() if spaced else line], delimiter=separator,
                          skipinitialspace=spaced), [])  # fmt: skip
  return [cell.strip() for cell in cells]


def _is_data(cells: Sequence[str]) -> bool:
  """Returns whether cells after the first are numbers, as no header has them."""
  return any(NUMBER.fullmatch(cell) for cell in cells[1:]) and all(
    cell in UNKNOWN or NUMBER.fullmatch(cell) for cell in cells[1:]
  )


def _mostly_numbers(cells: Sequence[str]) -> bool:
  """Returns whether at least half of the cells that hold something are numbers."""
  written = [cell for cell in cells if cell not in UNKNOWN]
  return 2 * sum(NUMBER.fullmatch(cell) is not None for cell in written) >= len(written)


def _key(column: str) -> str:
  """Returns a column's name as names compare."""
  return re.sub(r"[^a-z0-9]", "", column.lower())


def _label(column: str) -> str | None:
  """Returns the unit that a name such as S1_TPM or count.S1 has at one of its ends."""
  words = re.split(r"[^a-z0-9]+", column.lower())
  return next((QUANTITIES[w] for w in (words[-1], words[0]) if w in _LABELS), None)
