"""Expression of genes by data sets: numbers as tables write them, their unit, and TPM."""

import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from alphaecoli.errors import DataError
from alphaecoli.genomics.quality import QualityReport

LOGGER = logging.getLogger(__name__)
MILLION = 1e6
EMPTY = ("", "NA")  # cells without a value
NUMBER = re.compile(r"[+-]?(\d[\d.,'\u2019\u00a0\u202f ]*|\.\d+)([eE][+-]?\d+)?")
_SPACES = re.compile(r"(?<=\d)['\u2019\u00a0\u202f ](?=\d{3})")  # thousands, neither . nor ,
_POINT = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)?(\.\d*)?([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)?(,\d*)?([eE][+-]?\d+)?")
_MAX_LOG2 = 20.0  # log2(1e6 + 1) is 19.93
_FEW = 10  # values that say nothing about their unit
_MANY = 100  # rows of whole numbers that are counts unless the user says otherwise
# Sums of TPM over a complete annotation; they fall short of 1e6 where rRNA was left out after.
_LEAST_SUM, _MOST_SUM = 5e5, 1.5e6


@dataclasses.dataclass(frozen=True)
class ExpressionTable:
  """Transcripts per million.

  Attributes:
    gene_ids: rows, in the order of the genes that were asked for.
    datasets: columns by name, in order of first appearance; only those with a usable unit.
    tpm: NaN where unknown.
    left_out: names of the data sets without a usable unit, where they are kept.
    unit: unit that they were converted from, as --values calls it.
  """

  gene_ids: tuple[str, ...]
  datasets: tuple[str, ...]
  tpm: Float64[np.ndarray, "G D"]
  left_out: tuple[str, ...] = ()
  unit: str = "tpm"

  def of_rows(self, rows: Sequence[int]) -> "ExpressionTable":
    """Returns the table of some of its genes."""
    names = tuple(self.gene_ids[row] for row in rows)
    return dataclasses.replace(self, gene_ids=names, tpm=self.tpm[list(rows)])


def to_tpm(
  unit: str,
  value: Float64[np.ndarray, "G"],
  name: str,
  lengths: Float64[np.ndarray, "G"],
  max_tpm_sum: float,
  report: QualityReport,
) -> Float64[np.ndarray, "G"] | None:
  """Converts one data set to TPM; None, and reported, where every value is 0.

  Args:
    unit: unit of the values: tpm, fpkm or count.
    value: values by gene, NaN where unknown; at least one is not NaN.
    name: name of the data set, for the report.
    lengths: lengths of the genes, in bp.
    max_tpm_sum: largest sum of TPM; a larger one is rescaled.
    report: counter of conversions.
  """
  if not np.nanmax(value) > 0:
    report.count("data set left out: every value is 0", dataset=name)
    return None
  if unit == "count":
    value = value / lengths
  if unit == "tpm":
    if np.nansum(value) <= max_tpm_sum:
      return value
    report.count("data set that can not be TPM: rescaled to a sum of 1e6", dataset=name)
  else:
    report.count(f"data set converted from {unit} to TPM", dataset=name)
  value = value / np.nanmax(value)
  return value * (MILLION / np.nansum(value))


def parse_numbers(
  path: Path, columns: Sequence[Sequence[str]], whole: bool
) -> tuple[Float64[np.ndarray, "R D"], tuple[int, ...]]:
  """Parses cells as numbers, NaN where unknown or none; counts those of each column that are none.

  Decimal points and commas, and separators of thousands, are told apart by all cells together.

  Args:
    path: file, for messages.
    columns: cells of each column.
    whole: whether whole numbers are expected: a comma before three digits then marks thousands.

  Raises:
    DataError: they can not be told apart.
  """
  drop, point = _marks(path, {c for column in columns for c in column}, whole)
  values = np.full((len(columns[0]), len(columns)), np.nan)
  bad = [0] * len(columns)
  for column, cells in enumerate(columns):
    for row, cell in enumerate(cells):
      if cell in EMPTY:
        continue
      try:
        value = float("nan" if "_" in cell else _plain(cell, drop, point))
      except ValueError:
        value = np.nan
      if np.isfinite(value):
        values[row, column] = value
      else:
        bad[column] += 1
  return values, tuple(bad)


def _marks(path: Path, cells: set[str], whole: bool) -> tuple[str, str]:
  """Returns the mark of thousands and that of decimals.

  Raises:
    DataError: cells disagree, or may be read in both ways.
  """
  special = [c for c in cells if "," in c or c.count(".") > 1 or _SPACES.search(c)]
  marked = sorted(c for c in special if NUMBER.fullmatch(c))
  if not marked:
    return ",", "."
  plain = [_SPACES.sub("", cell) for cell in cells if NUMBER.fullmatch(cell)]
  with_point = all(_POINT.fullmatch(cell) for cell in plain)
  with_comma = all(_COMMA.fullmatch(cell) for cell in plain)
  matters = any("," in cell or "." in cell for cell in plain)
  if matters and with_point == with_comma and not (with_point and whole):
    fault = "may be thousands or decimals" if with_point else "are not written in one way"
    some = ", ".join(cell[:20] for cell in marked[:3])
    raise DataError(
      f"{path}: numbers such as {some} {fault}; write decimal points, and nothing between thousands"
    )
  marks = (",", ".") if with_point else (".", ",")
  example = max(marked, key=len)
  number = float(_plain(example, *marks))
  LOGGER.warning("%s: numbers such as %s are read as %s", path, example[:40], number)
  return marks


def _plain(cell: str, drop: str, point: str) -> str:
  """Writes a number as Python does."""
  return _SPACES.sub("", cell).replace(drop, "").replace(point, ".")


def unit_of_counter(
  path: Path, tool: str, values: Float64[np.ndarray, "R D"], given: str | None
) -> str | None:
  """Returns the unit of the values of a tool that counts, if they are its own; else None.

  Args:
    path: file, for messages.
    tool: name of the tool.
    values: rows of the file, NaN where unknown.
    given: unit that the user gave; None where none was given.

  Raises:
    DataError: they contradict the unit that the user gave, or are no whole numbers and none is.
  """
  if np.all(np.isnan(values) | (values % 1 == 0)):
    if given in (None, "counts"):
      return "counts"
    raise DataError(
      f"{path}: --values {given}, but these are whole numbers, with columns or rows of {tool}; "
      "give --values counts, or none"
    )
  if given is None:
    raise DataError(
      f"{path}: columns or rows of {tool}, but not its whole numbers; give --values counts where "
      "they are fractions of counts, else tpm or what they are"
    )
  return None


def check_scale(
  path: Path,
  unit: str,
  given: bool,
  values: Float64[np.ndarray, "R D"],
  complete: bool,
  max_tpm_sum: float,
) -> None:
  """Refuses values that can not be of their unit, and warns of doubtful ones.

  Args:
    path: file, for messages.
    unit: tpm, counts, fpkm or log2tpm.
    given: whether the user or the file says so; what is doubtful is then a warning.
    values: rows of the file, NaN where unknown.
    complete: whether the rows are about all genes of a whole genome.
    max_tpm_sum: largest possible sum of TPM.

  Raises:
    DataError: they are of another unit; names the one that they seem to have.
  """
  values = values[:, np.nansum(np.abs(values), axis=0) > 0]
  if not values.size:
    return
  known = np.count_nonzero(~np.isnan(values), axis=0)
  if (np.count_nonzero(values < 0, axis=0) > np.maximum(1, known / _MANY)).any():
    what = "TPM" if unit == "log2tpm" else "TPM, or log2(TPM + 1) with --values log2tpm"
    raise DataError(
      f"{path}: values below 0 (the lowest is {np.nanmin(values):.6g}) are no "
      f"{'log2(TPM + 1)' if unit == 'log2tpm' else unit}: logarithms without + 1, or differences? "
      f"give {what}"
    )
  values = np.where(values < 0, np.nan, values)
  highest = np.nanmax(values, axis=0)
  whole = bool((np.isnan(values) | (values % 1 == 0)).all())
  enough = np.count_nonzero(values > 0, axis=0) >= _FEW
  if unit == "log2tpm":
    _check_logarithms(path, values, highest, complete)
    return
  low = enough & (highest <= _MAX_LOG2)
  if not whole and enough.any() and 2 * low.sum() >= enough.sum():
    kind = _logarithm(values[:, low]) or "log2(TPM + 1)? then give --values log2tpm"
    which = "all values" if low.sum() == enough.sum() else f"the values of {low.sum()} columns"
    top = f"{highest[low].max():.6g}"
    raise DataError(f"{path}: {which} are at most {top}, too low for {unit}: logarithms? {kind}")
  if unit == "tpm":
    _check_tpm(path, values, given, whole, complete, max_tpm_sum)
  elif unit == "counts" and not whole and _near_million(values):
    LOGGER.warning("%s: every sample sums to 1e6; if these are TPM, give --values tpm", path)


def _check_logarithms(
  path: Path,
  values: Float64[np.ndarray, "R D"],
  highest: Float64[np.ndarray, "D"],
  complete: bool,
) -> None:
  """Checks log2(TPM + 1).

  Raises:
    DataError: they are no such logarithms.
  """
  if highest.max() > _MAX_LOG2:
    raise DataError(
      f"{path}: {highest.max():.6g} is no log2(TPM + 1), which is below {_MAX_LOG2:g}; give "
      "--values tpm, counts or fpkm"
    )
  sums = np.nansum(np.exp2(values) - 1, axis=0)
  if (sums > _MOST_SUM).all():
    raise DataError(
      f"{path}: 2^x - 1 sums to {_range(sums)}, TPM to 1e6: are these log2(TPM + 1)? else give TPM"
    )
  if complete and (sums < _LEAST_SUM).all():
    other = _logarithm(values)
    if other:
      raise DataError(f"{path}: 2^x - 1 sums to {_range(sums)}, TPM to 1e6: {other}")
    LOGGER.warning("%s: 2^x - 1 sums to %s, TPM to 1e6", path, _range(sums))


def _logarithm(values: Float64[np.ndarray, "R D"]) -> str:
  """Returns what to do about logarithms whose base the sum of TPM gives away; else ""."""
  if _near_million(np.exp2(values) - 1):
    return "they are log2(TPM + 1): give --values log2tpm"
  for name, base in (("natural", np.e), ("decimal", 10.0)):
    if _near_million(np.power(base, np.minimum(values, 30)) - 1):
      return f"they are {name} logarithms of TPM + 1: give TPM"
  return ""


def _check_tpm(
  path: Path,
  values: Float64[np.ndarray, "R D"],
  given: bool,
  whole: bool,
  complete: bool,
  max_tpm_sum: float,
) -> None:
  """Checks TPM by their sums, and by whether they are whole numbers.

  Raises:
    DataError: they are counts or FPKM.
  """
  sums = np.nansum(values, axis=0)
  high, low = bool((sums > max_tpm_sum).all()), complete and bool((sums < _LEAST_SUM).all())
  if whole and not _near_million(values):
    fault = f"whole numbers that sum to {_range(sums)}, where TPM sum to 1e6: counts?"
    high = bool((sums > max_tpm_sum).any())  # rounding can not make one so large
    certain = high or low or (not given and len(values) >= _MANY)
  elif high or low:
    other = "normalised counts" if high else "TPM with genes left out"
    fault = f"its samples sum to {_range(sums)}, TPM to 1e6: FPKM, or {other}?"
    certain = not given
  else:
    return
  unit = "counts" if whole else "fpkm or counts" if high else "fpkm"
  if certain:
    raise DataError(f"{path}: {fault} give --values {unit}" + ("" if given else ", or tpm if so"))
  LOGGER.warning("%s: %s they are read as TPM; else give --values %s", path, fault, unit)


def _near_million(values: Float64[np.ndarray, "R D"]) -> bool:
  """Returns whether every sample sums to a million, up to 1%."""
  return bool((np.abs(np.nansum(values, axis=0) / MILLION - 1) < 0.01).all())


def _range(sums: Float64[np.ndarray, "D"]) -> str:
  """Writes the lowest and highest of several sums."""
  low, high = f"{sums.min():.3g}", f"{sums.max():.3g}"
  return low if low == high else f"{low} to {high}"
