"""Expression documents to a table of TPM, genes by data sets.

Documents are folded into arrays as they stream by; no document is kept. What decides the unit of a
data set (how many genes have TPM) only grows, so FPKM and counts are dropped as soon as a data set
has TPM enough: the arrays of ten million documents take about 200 MB.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from alphaecoli.errors import DataError
from alphaecoli.genomics.expression import ExpressionTable, to_tpm
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.regulondb.bson import Document, Progress, read_collection
from alphaecoli.regulondb.fields import ID_KEYS, nested_id, parse_number, text_of
from alphaecoli.regulondb.records import dataset_name

UNITS = ("tpm", "fpkm", "count")  # in order of preference
_MAX_VALUE = 1e300  # sums of more could overflow
_FLUSH_DOCUMENTS = 8192
_BLOCK = 32  # data sets whose arrays are allocated together


def read_expression(
  path: str | os.PathLike[str],
  genes: Sequence[Gene],
  report: QualityReport,
  *,
  min_genes_per_unit: int = 100,
  max_tpm_sum: float = 1.5e6,
  skipped: Collection[str] = (),
  max_docs: int = 0,
  progress: Progress | None = None,
) -> ExpressionTable:
  """Reads geneExpression into TPM (docs/data.md).

  A data set's unit is `tpm` where at least `min_genes_per_unit` genes have one written down, else
  `fpkm` likewise (TPM = 1e6 · FPKM / Σ FPKM), else `count` likewise (over gene length, to a sum of
  1e6); a data set with none is left out and reported. A key that is absent reads 0 if the data set
  never writes a 0 for that unit; null is unknown. Several documents of a gene are averaged.

  Args:
    path: BSON file.
    genes: rows of the table; documents match by gene id, else by b-number.
    report: counter of skipped documents by reason, of bad values and repaired data sets by name.
    min_genes_per_unit: least number of genes with a unit for it to be used.
    max_tpm_sum: largest possible sum of TPM; a larger one is rescaled to 1e6.
    skipped: ids and b-numbers of genes left out on purpose, counted apart from unknown ones.
    max_docs: largest number of documents; 0 reads all.
    progress: callback: bytes done, bytes in all, documents so far.

  Raises:
    DataError: as `bson.read_collection`; or no document matches a gene (unless max_docs).

  Source: TPM from FPKM: Li and Dewey 2011, doi:10.1186/1471-2105-12-323.
  """
  lengths = np.array([g.transcript_bp for g in genes], np.float64)
  fold = _Fold(genes, min_genes_per_unit, frozenset(skipped), report)
  for batch in read_collection(path, "geneExpression", max_docs=max_docs, progress=progress):
    fold.add(batch)
  fold.flush()
  if not fold.matched and not max_docs:
    raise DataError(
      f"{path}: none of its {fold.documents} documents matches a gene of geneDatamart by id or "
      "b-number; are the two from one release?"
    )
  datasets, tpm = fold.finish(lengths, max_tpm_sum)
  return ExpressionTable(tuple(g.id for g in genes), datasets, tpm)


class _Missing:
  """Type of the mark for an absent key."""


_ABSENT = _Missing()


class _Unit:
  """One unit of a block of data sets: sums, documents with a value, documents without the key."""

  __slots__ = ("absent", "n", "total", "zero")

  def __init__(self, n_genes: int):
    self.total = np.zeros((_BLOCK, n_genes), np.float64)
    self.n = np.zeros((_BLOCK, n_genes), np.uint32)
    self.absent = np.zeros((_BLOCK, n_genes), np.uint32)
    self.zero = np.zeros(_BLOCK, bool)  # whether an explicit 0 was read


class _Fold:
  """Folds documents into arrays."""

  def __init__(
    self,
    genes: Sequence[Gene],
    min_genes: int,
    skipped: frozenset[str],
    report: QualityReport,
  ):
    self.n_genes = len(genes)
    self.min_genes = min_genes
    self.skipped = skipped
    self.report = report
    self.by_id = {g.id: i for i, g in enumerate(genes)}
    self.by_tag = {g.locus_tag: i for i, g in enumerate(genes) if g.locus_tag}
    self.id_key = ID_KEYS[0]  # of nested genes in this release
    self.columns: dict[str, int] = {}  # data set id as written -> column
    self.names: dict[str, int] = {}  # data set name -> column
    self.blocks: list[dict[str, _Unit]] = []
    self.enough_tpm: list[bool] = []
    self.documents = 0
    self.matched = 0
    self.rows: list[int] = []
    self.cols: list[int] = []
    self.values: dict[str, list[Any]] = {unit: [] for unit in UNITS}

  def add(self, batch: list[Document]) -> None:
    """Adds a batch; the inner loop limits the speed of reading."""
    by_id, columns, key = self.by_id, self.columns, self.id_key
    add_row, add_col = self.rows.append, self.cols.append
    add_tpm, add_fpkm, add_count = (self.values[unit].append for unit in UNITS)
    for document in batch:
      try:
        row = by_id[document["gene"][key]]
        (identifier,) = document["datasetIds"]
        column = columns[identifier]
      except (KeyError, TypeError, ValueError):
        self._add_unusual(document)
        continue
      add_row(row)
      add_col(column)
      add_tpm(document.get("tpm", _ABSENT))
      add_fpkm(document.get("fpkm", _ABSENT))
      add_count(document.get("count", _ABSENT))
    self.documents += len(batch)
    if len(self.rows) >= _FLUSH_DOCUMENTS:
      self.flush()

  def _add_unusual(self, document: Document) -> None:
    """Adds a document of an older release, of a new data set, or without a required field."""
    example = nested_id(document) or None
    gene = document.get("gene")
    if not isinstance(gene, Mapping):
      self.report.count("expression document without a gene", 1, example)
      return
    identifier, tag = nested_id(gene), text_of(gene.get("bnumber"))
    row = self.by_id.get(identifier, self.by_tag.get(tag, -1))
    if row >= 0 and identifier:  # the next document of this gene, or release, takes the quick way
      self.by_id[identifier] = row
      self.id_key = next((key for key in ID_KEYS if gene.get(key) == identifier), self.id_key)
    if row < 0:
      skipped = identifier in self.skipped or tag in self.skipped
      self.report.count(
        "expression document of a skipped gene"
        if skipped
        else "expression document of a gene not in geneDatamart",
        1,
        example,
      )
      return
    ids = document.get("datasetIds")
    ids = [ids] if isinstance(ids, str) else ids if isinstance(ids, list) else []
    if not ids:
      self.report.count("expression document without a data set", 1, example)
    for dataset in ids:
      self.rows.append(row)
      self.cols.append(self._column(dataset))
      for unit in UNITS:
        self.values[unit].append(document.get(unit, _ABSENT))

  def _column(self, identifier: Any) -> int:
    """Returns the column of a data set, a new one for a new name."""
    name = dataset_name(identifier)
    column = self.names.setdefault(name, len(self.names))
    if column == len(self.enough_tpm):
      self.enough_tpm.append(False)
      if column % _BLOCK == 0:
        self.blocks.append({})
    if isinstance(identifier, str):
      self.columns[identifier] = column
    return column

  def flush(self) -> None:
    """Moves the gathered values into the arrays."""
    if not self.rows:
      return
    self.matched += len(self.rows)
    rows, cols = np.array(self.rows, np.int64), np.array(self.cols, np.int64)
    for unit in UNITS:
      self._flush_unit(unit, rows, cols)
      self.values[unit].clear()
    self.rows.clear()
    self.cols.clear()

  def _flush_unit(
    self, unit: str, rows: Int64[np.ndarray, "N"], cols: Int64[np.ndarray, "N"]
  ) -> None:
    """Moves the gathered values of one unit into its arrays, block by block."""
    values, written, absent = _parse(self.values[unit])
    bad = written & ~((values >= 0) & (values < _MAX_VALUE))
    if bad.any():
      self._count_bad(unit, cols[bad])
      written &= ~bad
    used = written | absent
    if unit != "tpm":
      used &= ~np.array(self.enough_tpm)[cols]
    if not used.any():
      return
    rows, cols, values, written = rows[used], cols[used], values[used], written[used]
    for b in np.unique(cols // _BLOCK):
      here = cols // _BLOCK == b
      self._fold_block(int(b), unit, rows[here], cols[here] % _BLOCK, values[here], written[here])

  def _fold_block(self, b: int, unit: str, rows, cols, values, written) -> None:
    """Adds values and absent keys to the arrays of one block of data sets."""
    block = self.blocks[b]
    if unit not in block:
      block[unit] = _Unit(self.n_genes)
    arrays = block[unit]
    at = cols[written], rows[written]
    np.add.at(arrays.total, at, values[written])  # unlike +=, adds an index that repeats each time
    np.add.at(arrays.n, at, np.uint32(1))
    np.add.at(arrays.absent, (cols[~written], rows[~written]), np.uint32(1))
    arrays.zero[cols[written][values[written] == 0]] = True
    if unit == "tpm":
      for c in np.unique(cols):
        enough = np.count_nonzero(arrays.n[c]) >= self.min_genes
        self.enough_tpm[b * _BLOCK + c] |= bool(enough)
      if all(self.enough_tpm[b * _BLOCK : (b + 1) * _BLOCK]):
        block.pop("fpkm", None)
        block.pop("count", None)

  def _count_bad(self, unit: str, cols: Int64[np.ndarray, "N"]) -> None:
    """Counts bad values by data set."""
    names = list(self.names)
    for column, n in zip(*np.unique(cols, return_counts=True), strict=True):
      reason = f"bad {unit}: not a number, negative or infinite"
      self.report.count(reason, int(n), dataset=names[column])

  def finish(
    self, lengths: Float64[np.ndarray, "G"], max_tpm_sum: float
  ) -> tuple[tuple[str, ...], Float64[np.ndarray, "G D"]]:
    """Chooses units, converts and averages; frees the arrays block by block."""
    names: list[str] = []
    table = np.empty((len(self.names), self.n_genes), np.float64)
    for column, name in enumerate(self.names):
      block = self.blocks[column // _BLOCK]
      tpm = self._tpm(block, column % _BLOCK, name, lengths, max_tpm_sum)
      if tpm is not None:
        table[len(names)] = tpm
        names.append(name)
      if column % _BLOCK == _BLOCK - 1:
        block.clear()
    self.blocks.clear()
    self.report.total("expression documents", self.documents)
    self.report.total("data sets with expression", len(names))
    return tuple(names), table[: len(names)].T

  def _tpm(
    self,
    block: dict[str, _Unit],
    c: int,
    name: str,
    lengths: Float64[np.ndarray, "G"],
    max_tpm_sum: float,
  ) -> Float64[np.ndarray, "G"] | None:
    """Computes the TPM of one data set from its first unit with enough genes; None without one."""
    for unit in UNITS:
      arrays = block.get(unit)
      if arrays is None or np.count_nonzero(arrays.n[c]) < self.min_genes:
        continue
      n, twice = arrays.n[c].astype(np.float64), arrays.n[c] > 1
      self.report.count("gene measured twice in a data set: mean", int(twice.sum()), dataset=name)
      if not arrays.zero[c] and arrays.absent[c].any():
        zeros = int(np.count_nonzero(arrays.absent[c]))
        self.report.count(f"absent {unit} read as 0", zeros, dataset=name)
        n += arrays.absent[c]
      value = np.divide(arrays.total[c], n, out=np.full_like(n, np.nan), where=n > 0)
      return to_tpm(unit, value, name, lengths, max_tpm_sum, self.report)
    self.report.count("data set left out: no unit with enough genes", dataset=name)
    return None


def _parse(
  raw: list[Any],
) -> tuple[Float64[np.ndarray, "N"], Bool[np.ndarray, "N"], Bool[np.ndarray, "N"]]:
  """Parses raw values to numbers, the mask of written values and the mask of absent keys.

  What is written but not a number becomes NaN; null is neither written nor absent.
  """
  types = set(map(type, raw))
  n = len(raw)
  if types == {float}:
    return np.array(raw, np.float64), np.ones(n, bool), np.zeros(n, bool)
  if types <= {type(None)}:
    return np.full(n, np.nan), np.zeros(n, bool), np.zeros(n, bool)
  absent = np.fromiter((v is _ABSENT for v in raw), bool, n)
  written = np.fromiter((v is not None for v in raw), bool, n) & ~absent
  numbers = (v if type(v) is float else parse_number(v) for v in raw)
  values = np.fromiter((np.nan if v is None else v for v in numbers), np.float64, n)
  return values, written, absent
