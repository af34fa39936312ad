"""Construction of tracks from records: arrays with a value for every base (docs/data.md)."""

import dataclasses
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from alphaecoli.errors import ConfigError, nearest
from alphaecoli.genomics.expression import ExpressionTable
from alphaecoli.genomics.genes import (
  Dataset,
  Gene,
  GenomeRecords,
  Operon,
  gene_kind,
)
from alphaecoli.genomics.intervals import StartEnd, neighbours, split_at_origin
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.sequence import Contig
from alphaecoli.genomics.text import one_line
from alphaecoli.regulondb.records import dataset_name
from alphaecoli.schema import ALL_OPERONS, BIN_BP, MIN_PREVALENCE, UNKNOWN, DataConfig
from alphaecoli.tracks.gene_table import GeneTable
from alphaecoli.tracks.gene_targets import DensityIndex, PiecewiseTrack
from alphaecoli.tracks.splits import TRAIN, Regions, total_bp
from alphaecoli.tracks.track_table import UNKNOWN_OPERON, ExpressionTrack, TrackTable

LOGGER = logging.getLogger(__name__)
USUAL_PREVALENCE = (0.05, 0.8)  # of operons over training bases; beyond it, a warning
MOST_LISTED = 0.9  # share of genes in listed operons below which a warning says so
_STRANDS = {".": (-1, 0, 1), "+": (1,), "-": (-1,)}

Groups = list[tuple[str, tuple[str, ...]]]


@dataclasses.dataclass(frozen=True)
class Tracks:
  """Content of a store, of one contig.

  Attributes:
    contig: the chromosome.
    circular: whether the chromosome is circular.
    regions: regions of each split.
    table: tracks and statistics, over all contigs of the genome.
    expression: z-scores.
    operons: 1 within an operon, 2 where that is unknown.
    genes: genes with log(1 + TPM), NaN where unknown or of the other strand.
    report: counts of skipped and repaired records, on all contigs.
    settings: keys of the data section that this contig has otherwise than the genome.
  """

  contig: Contig
  circular: bool
  regions: Regions
  table: TrackTable
  expression: PiecewiseTrack
  operons: UInt8[np.ndarray, "L"]
  genes: GeneTable
  report: QualityReport
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def by_evidence(
  operons: Sequence[Operon], evidence: str, report: QualityReport
) -> tuple[list[Operon], list[Operon]]:
  """Divides operons into those that a configuration believes and those that are unknown.

  Args:
    operons: operons of several genes.
    evidence: `data.operon_evidence`: all, or experimental.
    report: counter of operons that are unknown.

  Raises:
    ConfigError: none has the evidence.
  """
  believed = [o for o in operons if evidence in (ALL_OPERONS, o.evidence)]
  masked = [o for o in operons if evidence not in (ALL_OPERONS, o.evidence)]
  if operons and not believed:
    raise ConfigError(
      f"data.operon_evidence={evidence!r}: none of {len(operons)} operons of several genes has "
      f"such evidence; leave it at {ALL_OPERONS!r}"
    )
  for operon in masked:
    report.count(f"operon without {evidence} evidence: unknown", 1, operon.id)
  return believed, masked


def operon_membership(genome_records: GenomeRecords, data: DataConfig) -> UInt8[np.ndarray, "L"]:
  """Marks bases: 1 from the first to the last base of an operon, `UNKNOWN_OPERON` where unknown.

  Raises:
    ConfigError: no operon has the evidence that the configuration asks for.

  Source: RegulonDB, operonDatamart.
  """
  operons, report = genome_records.operons or (), genome_records.report
  length_bp = genome_records.contig.length_bp
  several = [o for o in operons if len(o.gene_ids) >= data.min_operon_genes]
  believed, masked = by_evidence(several, data.operon_evidence, report)
  unknown = [(o.start, o.end) for o in masked]
  if genome_records.operons is not None and data.unlisted_genes == UNKNOWN:
    listed = {gene for operon in operons for gene in operon.gene_ids}
    for gene in genome_records.genes:
      report.count("gene in no listed operon: unknown", gene.id not in listed, gene.id)
    unknown += unlisted_intervals(genome_records.genes, listed, length_bp, data.circular)
  track = np.zeros(length_bp, np.uint8)
  for value, chosen in ((UNKNOWN_OPERON, unknown), (1, [(o.start, o.end) for o in believed])):
    for start, end in split_at_origin(chosen, length_bp):
      track[start:end] = value
  return track


def unlisted_intervals(
  genes: Sequence[Gene], listed: Collection[str], length_bp: int, circular: bool
) -> list[StartEnd]:
  """Returns the genes in no listed operon, and the gaps between two that follow one another.

  Two of one strand may share an operon that is not listed; one beside a listed operon may not.
  """
  ordered = sorted(genes, key=lambda gene: (gene.start, gene.end))
  start, end, strand = np.array([(g.start, g.end, g.strand) for g in ordered], np.int64).T
  unlisted = np.array([gene.id not in listed for gene in ordered], bool)
  pairs = neighbours(start, end, strand, length_bp if circular else None)
  gaps = unlisted[pairs.left] & unlisted[pairs.right] & (pairs.distance_bp > 0)
  first = end[pairs.left[gaps]]
  found = zip(first.tolist(), (first + pairs.distance_bp[gaps]).tolist(), strict=True)
  return [*zip(start[unlisted].tolist(), end[unlisted].tolist(), strict=True), *found]


def check_operons(genome_records: GenomeRecords, prevalence: float, data: DataConfig) -> None:
  """Counts the genes in listed operons; warns of few, and of an unlikely share of bases."""
  report, operons = genome_records.report, genome_records.operons or ()
  listed = {gene for operon in operons for gene in operon.gene_ids}
  n, total = sum(gene.id in listed for gene in genome_records.genes), len(genome_records.genes)
  report.total("genes in listed operons", n)
  if n < MOST_LISTED * total and data.unlisted_genes != UNKNOWN:
    LOGGER.warning(
      "the operons list %d of %d genes (%.0f%%); the others count as outside of operons, or as "
      "unknown with --config.data.unlisted_genes=unknown",
      n, total, 100 * n / total,
    )  # fmt: skip
  low, high = USUAL_PREVALENCE
  if not low <= prevalence <= high:
    report.count("unlikely share of training bases in operons", 1, f"{prevalence:.4f}")
    LOGGER.warning(
      "%.1f%% of the training bases lie in operons of %d or more genes; %g to %g%% are usual: check"
      " the operons and data.min_operon_genes",
      100 * prevalence, data.min_operon_genes, 100 * low, 100 * high,
    )  # fmt: skip


def density_mean(contigs: Iterable[tuple[DensityIndex, Regions]]) -> float:
  """Returns the genes per bin of 128 bp, mean over the whole bins of the training regions."""
  counts = [
    density.counts(region.start, region.length_bp // BIN_BP)
    for density, regions in contigs
    for region in regions[TRAIN]
  ]
  joined = np.concatenate(counts) if counts else np.zeros(0)
  return float(joined.mean(dtype=np.float64)) if joined.size else 0.0


def operon_prevalence(contigs: Iterable[tuple[UInt8[np.ndarray, " _"], Regions]]) -> float:
  """Returns the fraction of known training bases in an operon, clipped: log odds are finite."""
  unknown = inside = total = 0
  for operons, regions in contigs:
    parts = [operons[a:b] for a, b in split_at_origin(regions[TRAIN], len(operons))]
    unknown += sum(int((part == UNKNOWN_OPERON).sum()) for part in parts)
    inside += sum(int((part == 1).sum()) for part in parts)
    total += total_bp(regions[TRAIN])
  fraction = inside / max(total - unknown, 1)
  return float(np.clip(fraction, MIN_PREVALENCE, 1 - MIN_PREVALENCE))


def expression_tracks(
  genome_records: GenomeRecords, data: DataConfig, in_training: Bool[np.ndarray, "G"]
) -> tuple[tuple[ExpressionTrack, ...], Float64[np.ndarray, "G T"]]:
  """Computes the expression tracks, and log(1 + TPM) of every gene in them.

  The two tracks of a stranded pair share mean and standard deviation, over training genes of
  either strand: else a window and its reverse complement would mean different TPM.

  Raises:
    ConfigError: see `expression_groups`; a track has no training gene, or all are equal.
  """
  table, genes = genome_records.expression, genome_records.genes
  if table is None:
    return (ExpressionTrack("mean", ".", (), 0.0, 1.0),), np.full((len(genes), 1), np.nan)
  strands = np.array([g.strand for g in genes], np.int64)
  logs = np.log1p(table.tpm)
  logs[unmeasured(genes, data.unknown_expression_types, logs, genome_records.report)] = np.nan
  tracks: list[ExpressionTrack] = []
  columns = []
  for name, datasets in expression_groups(table, genome_records.datasets, data):
    members = [table.datasets.index(d) for d in datasets]
    value = mean_where_known(logs[:, members])
    counted = in_training & ~np.isnan(value) & ((strands != 0) | (not data.stranded))
    mean, std = track_statistics(name, value[counted])
    for strand in "+-" if data.stranded else ".":
      label = name if strand == "." else name + strand
      tracks.append(ExpressionTrack(label, strand, datasets, mean, std))
      # A stranded track has the genes of its strand; those of unknown strand are in neither.
      columns.append(np.where(np.isin(strands, _STRANDS[strand]), value, np.nan))
  return tuple(tracks), np.stack(columns, axis=1)


def unmeasured(
  genes: Sequence[Gene],
  types: Sequence[str],
  values: Float64[np.ndarray, "G D"],
  report: QualityReport,
) -> Bool[np.ndarray, "G"]:
  """Returns which genes are of a type whose expression is unknown, whatever was measured.

  Args:
    genes: genes in order.
    types: gene types, in any case, with or without "_gene".
    values: values of the genes; one that has some is counted.
    report: counter of genes whose values are left out.
  """
  kinds = {gene_kind(kind) for kind in types}
  found = np.array([gene_kind(gene.type) in kinds for gene in genes], bool)
  for row in np.flatnonzero(found & ~np.isnan(values).all(axis=1)).tolist():
    report.count(f"gene of type {genes[row].type}: expression unknown", 1, genes[row].id)
  return found


def track_statistics(name: str, values: Float64[np.ndarray, "G"]) -> tuple[float, float]:
  """Returns mean and standard deviation of a track's training genes.

  Raises:
    ConfigError: there is no training gene, or all have the same value.
  """
  if not values.size:
    raise ConfigError(
      f"expression track {name!r} has no training gene with a value; leave it out of "
      "data.expression_groups or choose another data.expression_tracks"
    )
  mean, std = float(values.mean()), float(values.std())
  if not std > 0:
    raise ConfigError(
      f"expression track {name!r}: its {values.size} training genes all have log(1 + TPM) = "
      f"{mean:.6g}, so there is nothing to learn; leave it out or choose other data sets"
    )
  return mean, std


def mean_where_known(values: Float64[np.ndarray, "G D"]) -> Float64[np.ndarray, "G"]:
  """Returns the mean over the columns that are not NaN; NaN where all are."""
  mask = ~np.isnan(values)
  total, count = np.where(mask, values, 0).sum(axis=1), mask.sum(axis=1)
  return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def expression_groups(
  table: ExpressionTable, datasets: Sequence[Dataset], data: DataConfig
) -> Groups:
  """Returns the names of the unstranded tracks with the data sets of each.

  `data.expression_groups` where there are some, else as `data.expression_tracks` says: "mean" of
  all data sets, "dataset" for a track each, "group:<field>" for a track per value of a growth
  condition field.

  Raises:
    ConfigError: a data set or a field that does not exist, with the nearest that does.
  """
  if data.expression_groups:
    return _named_groups(table, data.expression_groups)
  kind, _, field = data.expression_tracks.partition(":")
  if kind == "mean":
    return [("mean", table.datasets)]
  if kind == "dataset":
    return [(name, (name,)) for name in table.datasets]
  return _condition_groups(table, datasets, field)


def _named_groups(table: ExpressionTable, groups: Mapping[str, Sequence[str]]) -> Groups:
  """Groups data sets by names with or without RegulonDB's prefix; sorted by group name."""
  found: Groups = []
  for group, given in sorted(groups.items()):
    names = tuple(dict.fromkeys(dataset_name(name) for name in given))
    for name in names:
      if name not in table.datasets:
        raise ConfigError(
          f"data.expression_groups.{group}: no usable data set {name!r}"
          + _nearest(name, table.datasets)
        )
    if not names:
      raise ConfigError(f"data.expression_groups.{group} names no data set")
    found.append((one_line(group), names))
  return found


def _condition_groups(table: ExpressionTable, datasets: Sequence[Dataset], field: str) -> Groups:
  """Groups data sets by a growth condition field; those without a value are in no group."""
  conditions = {d.name: d.conditions for d in datasets}
  groups: dict[str, list[str]] = {}
  for name in table.datasets:
    value = one_line(conditions.get(name, {}).get(field, ""))
    if value:
      groups.setdefault(value, []).append(name)
  if not groups:
    fields = sorted({f for d in table.datasets for f in conditions.get(d, {})})
    raise ConfigError(
      f"data.expression_tracks='group:{field}': no data set has the condition field {field!r}"
      + (_nearest(field, fields) or f"; fields: {', '.join(fields) or 'none'}")
    )
  return [(value, tuple(names)) for value, names in groups.items()]


def _nearest(name: str, names: Iterable[str]) -> str:
  """Suggests the name most like a wrong one, for messages."""
  near = nearest(name, names, similarity=0.5)
  return f"; did you mean {near!r}?" if near else ""
