"""A whole dump: genome, genes, operons, data sets and expression, with one quality report."""

import importlib.resources
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from alphaecoli.errors import DataError
from alphaecoli.genomics.expression import ExpressionTable
from alphaecoli.genomics.genes import MAX_OUTSIDE, Dataset, GenomeRecords, Operon
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.sequence import Contig, random_genome, read_fasta
from alphaecoli.regulondb import bson, expression, records
from alphaecoli.regulondb.fields import position_of
from alphaecoli.regulondb.records import GeneScan
from alphaecoli.schema import DataConfig

LOGGER = logging.getLogger(__name__)
BUILTIN = "builtin"
RANDOM = "random"
_BUILTIN_FOLDER = ("datasets", "ecoli_k12_mg1655")

FOLDERS = ("regulondbdatamarts", "regulondbht")
NLP_CONDITIONS = "nlpGrowthConditions"  # by text mining, of data sets
_HT_COLLECTIONS = ("geneExpression", "dataset", NLP_CONDITIONS)

DumpProgress = Callable[[str, int, int, int], None]  # collection, bytes done, in all, documents


def places(dump: Path, collection: str) -> list[Path]:
  """Returns the possible paths of a collection, every layout and suffix, in order of preference."""
  folders = FOLDERS[::-1] if collection in _HT_COLLECTIONS else FOLDERS[:1]
  return [
    base / folder / (collection + kind + packed)
    for base in (dump, dump / "dump")
    for folder in (*folders, "")
    for kind in bson.KINDS
    for packed in bson.PACKED
  ]


def find_collection(dump: str | os.PathLike[str], collection: str) -> Path | None:
  """Finds the file of a collection in a dump directory; None where there is none."""
  return next((p for p in places(Path(dump), collection) if p.is_file()), None)


def builtin_dump() -> Path:
  """Returns the directory of the embedded E. coli K-12 MG1655 data set."""
  return Path(str(importlib.resources.files("alphaecoli").joinpath(*_BUILTIN_FOLDER)))


def builtin_genome() -> Path:
  """Returns the FASTA of the embedded data set, NCBI NC_000913.3."""
  return builtin_dump() / "NC_000913.3.fna.gz"


def resolve_dump(dump: str | os.PathLike[str]) -> Path:
  """Returns the dump's directory; "builtin" is the embedded one.

  Raises:
    DataError: there is no such directory.
  """
  path = builtin_dump() if str(dump) == BUILTIN else Path(dump).expanduser()
  if not path.is_dir():
    raise DataError(f"{path}: no such directory; data.dump is a dump directory or '{BUILTIN}'")
  return path


def read_genome(data: DataConfig, report: QualityReport, *, seed: int = 0) -> Contig:
  """Reads the chromosome that `data.genome` names: a FASTA, "builtin" or "random".

  A FASTA of several contigs gives its longest, counted and logged. A random genome reaches to the
  last position of any gene.

  Raises:
    DataError: the FASTA is missing or broken.
  """
  if data.genome == RANDOM:
    path = _required(resolve_dump(data.dump), "geneDatamart")
    length_bp = last_position(path, data.max_docs_per_file)
    if length_bp == 0:
      raise DataError(f"{path}: no gene has a position, so a random genome has no length")
    LOGGER.warning("data.genome=random: %d bp of made-up sequence, seed %d", length_bp, seed)
    report.count("random bases in place of a genome", length_bp)
    return random_genome(length_bp, seed)
  path = builtin_genome() if data.genome == BUILTIN else Path(data.genome).expanduser()
  contigs = read_fasta(path)
  longest = max(contigs, key=lambda c: c.length_bp)
  for contig in contigs:
    if contig is not longest:
      report.count("contig that is not the longest: left out", 1, contig.name)
  if len(contigs) > 1:
    LOGGER.warning("%s: %d contigs; using the longest, %s", path, len(contigs), longest.name)
  return longest


def read_dump(
  dump: str | os.PathLike[str],
  contig: Contig,
  data: DataConfig,
  report: QualityReport,
  progress: DumpProgress | None = None,
) -> GenomeRecords:
  """Reads every collection of a dump.

  Args:
    dump: dump directory, or "builtin".
    contig: chromosome that the dump's positions refer to.
    data: gene types, circularity, thresholds and number of documents to read.
    report: counter of skipped and repaired records.
    progress: callback while geneExpression is read.

  Raises:
    DataError: geneDatamart is missing, a file is broken, or the genome is not the dump's.
  """
  root = resolve_dump(dump)
  inputs = {"geneDatamart": _required(root, "geneDatamart")}
  scan = records.scan_genes(
    inputs["geneDatamart"],
    contig.length_bp,
    report,
    exclude_types=data.exclude_gene_types,
    circular=data.circular,
    max_docs=data.max_docs_per_file,
  )
  _check_genome(scan, contig, report, inputs["geneDatamart"])
  operons = _operons(root, contig, scan, data, report, inputs)
  datasets: list[Dataset] = []
  path = find_collection(root, "dataset")
  if path:
    inputs["dataset"] = path
    datasets = records.read_datasets(path, report, max_docs=data.max_docs_per_file)
  else:
    report.count("no dataset collection: growth conditions unknown")
  path = find_collection(root, NLP_CONDITIONS)
  if path:
    inputs[NLP_CONDITIONS] = path
    more = records.read_growth_conditions(path, report, max_docs=data.max_docs_per_file)
    datasets = records.with_conditions(datasets, more)
  table = _expression(root, scan, data, report, inputs, progress)
  return GenomeRecords(contig, scan.genes, operons, datasets, table, report, inputs)


def last_position(path: str | os.PathLike[str], max_docs: int = 0) -> int:
  """Returns the largest 1-based position of any gene; 0 where none has positions."""
  last = 0
  for batch in bson.read_collection(path, "geneDatamart", max_docs=max_docs):
    for value in (document.get("gene") for document in batch):
      if isinstance(value, Mapping):
        ends = (position_of(value.get(key)) for key in ("leftEndPosition", "rightEndPosition"))
        last = max(last, *(end for end in ends if end is not None), 0)
  return last


def _required(root: Path, collection: str) -> Path:
  """Finds the file of a collection.

  Raises:
    DataError: there is none.
  """
  path = find_collection(root, collection)
  if path is None:
    raise DataError(f"{collection} not found; looked for {_looked(root, collection)}")
  return path


def _looked(root: Path, collection: str) -> str:
  """Names the places where a collection may lie, for messages."""
  folders = dict.fromkeys(p.parent for p in places(root, collection))
  names = " ".join(collection + kind for kind in bson.KINDS)
  return f"{names} (or .gz, .zip) in {', '.join(map(str, folders))}"


def _check_genome(scan: GeneScan, contig: Contig, report: QualityReport, path: Path) -> None:
  """Checks that most genes lie on the chromosome.

  Raises:
    DataError: too many lie outside.
  """
  outside = report["gene with positions outside the chromosome"]
  if not scan.genes or outside > MAX_OUTSIDE * (outside + len(scan.genes)):
    raise DataError(
      f"{path}: {outside} genes lie outside {contig.name} ({contig.length_bp} bp) and "
      f"{len(scan.genes)} within; is data.genome the genome of this dump?"
    )


def _operons(
  root: Path,
  contig: Contig,
  scan: GeneScan,
  data: DataConfig,
  report: QualityReport,
  inputs: dict[str, Path],
) -> list[Operon] | None:
  """Reads the operons of a dump; None, and logged, where it has none."""
  path = find_collection(root, "operonDatamart")
  if path is None:
    LOGGER.warning(
      "no operons: the operon head will not be trained; looked for %s",
      _looked(root, "operonDatamart"),
    )
    report.count("no operonDatamart: operons unknown")
    return None
  inputs["operonDatamart"] = path
  return records.read_operons(
    path,
    contig.length_bp,
    report,
    scan=scan,
    circular=data.circular,
    max_docs=data.max_docs_per_file,
  )


def _expression(
  root: Path,
  scan: GeneScan,
  data: DataConfig,
  report: QualityReport,
  inputs: dict[str, Path],
  progress: DumpProgress | None,
) -> ExpressionTable | None:
  """Reads the expression of a dump; None, and logged, where none of it can be used."""
  path = find_collection(root, "geneExpression")
  if path is None:
    LOGGER.warning(
      "no expression: the expression head will not be trained; looked for %s",
      _looked(root, "geneExpression"),
    )
    report.count("no geneExpression: expression unknown")
    return None
  inputs["geneExpression"] = path

  def show(done: int, total: int, documents: int) -> None:
    if progress:
      progress("geneExpression", done, total, documents)

  table = expression.read_expression(
    path,
    scan.genes,
    report,
    min_genes_per_unit=data.min_genes_per_unit,
    max_tpm_sum=data.max_tpm_sum,
    skipped=scan.unplaced_ids | scan.excluded_ids | scan.skipped_tags,
    max_docs=data.max_docs_per_file,
    progress=show,
  )
  if table.datasets:
    return table
  LOGGER.warning(
    "no expression: no data set of %s has %d genes with values; the expression head will not be "
    "trained",
    path,
    data.min_genes_per_unit,
  )
  report.count("no usable data set: expression unknown")
  return None
