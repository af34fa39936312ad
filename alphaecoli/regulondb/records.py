"""Conversion of documents to genes, operons and data sets.

Field names: RegulonDB's own models, https://github.com/regulondbunam/GraphQL-api (gene and operon)
and https://github.com/regulondbunam/RegulonDBHT-API (data sets and expression).
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from alphaecoli.genomics.genes import EXPERIMENTAL, NO_EVIDENCE, Dataset, Gene, Operon
from alphaecoli.genomics.intervals import covering_interval, unwrap
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.regulondb.bson import Document, read_collection
from alphaecoli.regulondb.fields import (
  conditions_of,
  interval_of,
  nested_id,
  objects_of,
  operon_evidence,
  plain_text,
  strand_of,
  terms_of,
  text_of,
)

DATASET_PREFIX = "GENE_EXPRESSION_"


@dataclasses.dataclass(frozen=True, slots=True)
class GeneScan:
  """geneDatamart as read.

  Attributes:
    genes: placed genes of the wanted types, in file order.
    unplaced_ids: genes of a wanted type without a usable position.
    excluded_ids: genes of an excluded type.
    skipped_tags: b-numbers of the two.
  """

  genes: list[Gene]
  unplaced_ids: frozenset[str]
  excluded_ids: frozenset[str]
  skipped_tags: frozenset[str]


def dataset_name(identifier: Any) -> str:
  """Returns a data set's name: its identifier without the prefix of releases since 2023."""
  return text_of(identifier).removeprefix(DATASET_PREFIX)


def _name(value: Mapping[str, Any]) -> str:
  """Returns the name of a gene or operon in any release."""
  return plain_text(text_of(value.get("name")) or text_of(value.get("gene_name")))


def scan_genes(
  path: str | os.PathLike[str],
  length_bp: int,
  report: QualityReport,
  *,
  exclude_types: Sequence[str] = ("phantom",),
  circular: bool = True,
  max_docs: int = 0,
) -> GeneScan:
  """Reads geneDatamart, with the genes that were left out.

  Args:
    path: BSON file.
    length_bp: chromosome length; positions outside are counted and skipped.
    report: counter of skipped and repaired records.
    exclude_types: gene types that are left out.
    circular: whether a gene may pass the origin.
    max_docs: largest number of documents; 0 reads all.

  Raises:
    DataError: as `bson.read_collection`.

  Source: RegulonDB, geneDatamart.
  """
  genes: dict[str, Gene] = {}
  unplaced: set[str] = set()
  excluded: set[str] = set()
  tags: set[str] = set()
  for document in _documents(path, "geneDatamart", max_docs):
    report.total("gene documents")
    value = document.get("gene")
    identifier = nested_id(value) or nested_id(document)
    if not isinstance(value, Mapping) or not identifier:
      report.count("gene document without a gene id", 1, nested_id(document) or None)
      continue
    if identifier in genes or identifier in unplaced or identifier in excluded:
      report.count("gene listed twice", 1, identifier)
      continue
    tag = text_of(value.get("bnumber"))
    kind = text_of(value.get("type"))
    if kind in exclude_types:
      report.count(f"gene of excluded type {kind}", 1, identifier)
      excluded.add(identifier)
      tags.add(tag)
      continue
    gene = _gene(value, identifier, tag, kind, length_bp, circular, report)
    if gene is None:
      unplaced.add(identifier)
      tags.add(tag)
    else:
      genes[identifier] = gene
  report.total("genes", len(genes))
  skipped_tags = frozenset(tags - {""} - {g.locus_tag for g in genes.values()})
  return GeneScan(list(genes.values()), frozenset(unplaced), frozenset(excluded), skipped_tags)


def _documents(path: str | os.PathLike[str], collection: str, max_docs: int) -> Iterator[Document]:
  """Yields the documents of a collection one by one."""
  for batch in read_collection(path, collection, max_docs=max_docs):
    yield from batch


def _gene(
  value: Mapping[str, Any],
  identifier: str,
  tag: str,
  kind: str,
  length_bp: int,
  circular: bool,
  report: QualityReport,
) -> Gene | None:
  """Converts a gene; None, and counted, where it has no usable position."""
  fragments, bad = _fragments(value, length_bp, circular)
  report.count("gene fragment with bad positions", bad, identifier)
  interval = interval_of(value, length_bp, circular)
  if interval is None and fragments and not bad:
    interval = covering_interval(fragments, length_bp)
    report.count("gene placed by its fragments", 1, identifier)
  if interval is None:
    report.count("gene without positions", 1, identifier)
    return None
  if isinstance(interval, str):
    report.count(f"gene with {interval}", 1, identifier)
    return None
  start, end = interval
  moved = unwrap(fragments, start, length_bp)
  if any(b > end for _, b in moved):
    report.count("gene with fragments outside it", 1, identifier)
    moved = []
  whole = len(moved) < 2 and (not moved or moved[0] == (start, end))
  if not tag:
    report.count("gene without b-number", 1, identifier)
  strand = strand_of(value.get("strand"), "gene", identifier, report)
  return Gene(
    identifier, _name(value), tag, start, end, strand, kind, () if whole else tuple(moved)
  )


def _fragments(
  value: Mapping[str, Any], length_bp: int, circular: bool
) -> tuple[list[tuple[int, int]], int]:
  """Returns the intervals of the fragments, and the number of unusable ones."""
  found = [
    interval_of(f, length_bp, circular) if isinstance(f, Mapping) else None
    for f in objects_of(value.get("fragments"))
  ]
  good = [f for f in found if isinstance(f, tuple)]
  return good, len(found) - len(good)


def read_operons(
  path: str | os.PathLike[str],
  length_bp: int,
  report: QualityReport,
  *,
  scan: GeneScan | None = None,
  circular: bool = True,
  max_docs: int = 0,
) -> list[Operon]:
  """Reads operonDatamart.

  Args:
    path: BSON file.
    length_bp: chromosome length.
    report: counter of skipped and repaired records.
    scan: geneDatamart; with it, ids that it does not hold and genes that are left out are dropped
      from `gene_ids`, and an operon without positions reaches from its first to its last gene.
    circular: whether an operon may pass the origin.
    max_docs: largest number of documents; 0 reads all.

  Raises:
    DataError: as `bson.read_collection`.

  Source: RegulonDB, operonDatamart.
  """
  placed = {g.id: g for g in scan.genes} if scan else {}
  operons: dict[str, Operon] = {}
  for document in _documents(path, "operonDatamart", max_docs):
    report.total("operon documents")
    value = document.get("operon")
    identifier = nested_id(value) or nested_id(document)
    if not isinstance(value, Mapping) or not identifier:
      report.count("operon document without an operon id", 1, nested_id(document) or None)
      continue
    if identifier in operons:
      report.count("operon listed twice", 1, identifier)
      continue
    gene_ids = _operon_genes(document, identifier, placed.keys(), scan, report)
    members = [(placed[g].start, placed[g].end) for g in gene_ids if g in placed]
    interval = _operon_interval(value, members, length_bp, circular, identifier, report)
    if interval is None:
      continue
    strand = strand_of(value.get("strand"), "operon", identifier, report)
    evidence = operon_evidence(objects_of(document.get("transcriptionUnits")), gene_ids, report)
    operons[identifier] = Operon(identifier, _name(value), *interval, strand, gene_ids, evidence)
  several = Counter(o.evidence for o in operons.values() if len(o.gene_ids) > 1)
  report.total("operons", len(operons))
  report.total("operons with two genes or more", several.total())
  report.total("operons with two genes or more: experimental evidence", several[EXPERIMENTAL])
  report.total("operons with two genes or more: no evidence", several[NO_EVIDENCE])
  return list(operons.values())


def _operon_interval(
  value: Mapping[str, Any],
  members: list[tuple[int, int]],
  length_bp: int,
  circular: bool,
  identifier: str,
  report: QualityReport,
) -> tuple[int, int] | None:
  """Returns the interval of an operon, else that of its genes; None, and counted, without any."""
  positions = value.get("regulationPositions")
  found = interval_of(positions if isinstance(positions, Mapping) else {}, length_bp, circular)
  if isinstance(found, tuple):
    return found
  report.count(f"operon with {found}" if found else "operon without positions", 1, identifier)
  if not members:
    report.count("operon skipped: no positions and no placed gene", 1, identifier)
    return None
  report.count("operon placed by its genes", 1, identifier)
  return covering_interval(members, length_bp)


def _operon_genes(
  document: Document,
  identifier: str,
  placed: Set[str],
  scan: GeneScan | None,
  report: QualityReport,
) -> tuple[str, ...]:
  """Returns the ids of the genes of all transcription units; with a scan, the placed ones alone.

  A gene that is left out, as a phantom or for want of a position, is none of the operon.
  """
  ids: dict[str, None] = {}
  for unit in objects_of(document.get("transcriptionUnits")):
    for gene in objects_of(unit.get("genes") if isinstance(unit, Mapping) else None):
      ids[nested_id(gene)] = None
  ids.pop("", None)
  if not ids:
    report.count("operon without genes", 1, identifier)
  if scan is None:
    return tuple(ids)
  for gene_id in [g for g in ids if g not in placed]:
    reasons = {
      "operon gene of an excluded type": scan.excluded_ids,
      "operon gene without positions": scan.unplaced_ids,
    }
    found = (reason for reason, ids_left_out in reasons.items() if gene_id in ids_left_out)
    report.count(next(found, "operon gene not in geneDatamart"), 1, gene_id)
    del ids[gene_id]
  return tuple(ids)


def read_datasets(
  path: str | os.PathLike[str], report: QualityReport, *, max_docs: int = 0
) -> list[Dataset]:
  """Reads the `dataset` collection: names and growth conditions, flattened to strings.

  Several growth conditions of one data set, and lists, are joined by "; ".

  Raises:
    DataError: as `bson.read_collection`.
  """
  datasets: dict[str, Dataset] = {}
  for document in _documents(path, "dataset", max_docs):
    report.total("data set documents")
    name = dataset_name(nested_id(document))
    if not name:
      report.count("data set document without an id")
    elif name in datasets:
      report.count("data set listed twice", 1, name)
    else:
      datasets[name] = Dataset(name, conditions_of(document.get("growthConditions")))
  return list(datasets.values())


def read_growth_conditions(
  path: str | os.PathLike[str], report: QualityReport, *, max_docs: int = 0
) -> dict[str, dict[str, str]]:
  """Reads nlpGrowthConditions: growth conditions by data set and field, as `read_datasets`.

  Raises:
    DataError: as `bson.read_collection`.

  Source: https://github.com/regulondbunam/RegulonDBHT-ETL, `NLPGrowthCondition`.
  """
  found: dict[str, list[dict[str, Any]]] = {}
  for document in _documents(path, "nlpGrowthConditions", max_docs):
    report.total("growth condition documents")
    fields = {
      key: [term.get("value") for term in terms if isinstance(term, Mapping)]
      for key, terms in terms_of(document)
    }
    names = {dataset_name(name) for name in objects_of(document.get("datasetIds"))} - {""}
    if not names:
      report.count("growth condition document without a data set", 1, nested_id(document) or None)
    for name in sorted(names):
      found.setdefault(name, []).append(fields)
  return {name: conditions_of(documents) for name, documents in found.items()}


def with_conditions(
  datasets: Sequence[Dataset], conditions: Mapping[str, Mapping[str, str]]
) -> list[Dataset]:
  """Adds growth conditions that data sets do not have themselves, and data sets of their own."""
  own = {dataset.name: dataset.conditions for dataset in datasets}
  names = dict.fromkeys([*own, *conditions])
  return [Dataset(n, {**conditions.get(n, {}), **own.get(n, {})}) for n in names]
