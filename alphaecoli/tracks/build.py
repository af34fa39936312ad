"""Records to tracks: what is known about every base, as arrays (docs/data.md)."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from alphaecoli.errors import ConfigError, nearest
from alphaecoli.genomics.expression import ExpressionTable
from alphaecoli.genomics.intervals import lay_out
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.records import Dataset, Gene, GenomeRecords
from alphaecoli.genomics.sequence import Contig
from alphaecoli.regulondb.records import Operon, dataset_name
from alphaecoli.schema import BIN_BP, MIN_PREVALENCE, DataConfig
from alphaecoli.tracks.density import DensityIndex, Pieces, StartEnd, mean_of_genes
from alphaecoli.tracks.gene_table import GeneTable
from alphaecoli.tracks.splits import TRAIN, Regions, split_of, split_regions, total_bp
from alphaecoli.tracks.track_table import ExpressionTrack, TrackTable

_STRANDS = {".": (-1, 0, 1), "+": (1,), "-": (-1,)}

Groups = list[tuple[str, tuple[str, ...]]]


@dataclasses.dataclass(frozen=True)
class Tracks:
  """All that a store holds.

  Attributes:
    contig: the chromosome.
    circular: whether it is a circle.
    regions: of each split.
    table: tracks and statistics.
    expression: z-scores.
    operons: 1 within an operon.
    genes: with log(1 + TPM), NaN where unknown or of the other strand.
    report: what was skipped or repaired.
  """

  contig: Contig
  circular: bool
  regions: Regions
  table: TrackTable
  expression: Pieces
  operons: UInt8[np.ndarray, "L"]
  genes: GeneTable
  report: QualityReport


def spans_of(gene: Gene) -> tuple[StartEnd, ...]:
  """The intervals of a gene's bases: its fragments where it is interrupted."""
  return gene.fragments or ((gene.start, gene.end),)


def build_tracks(genome_records: GenomeRecords, data: DataConfig) -> Tracks:
  """Computes every track and its statistics over the training split.

  Raises:
    ConfigError: a data set, condition field or track of the configuration has no data.
  """
  length_bp = genome_records.contig.length_bp
  regions = split_regions(length_bp, data.n_blocks, data.n_folds, data.fold, data.circular)
  genes = genome_records.genes
  splits = tuple(split_of(g.start, g.end, regions, length_bp) for g in genes)
  in_training = np.array([s == TRAIN for s in splits], bool)
  tracks, log_tpm = expression_tracks(genome_records, data, in_training)
  mean = np.array([t.mean for t in tracks])
  std = np.array([t.std for t in tracks])
  spans = [spans_of(g) for g in genes]
  expression = mean_of_genes(spans, (log_tpm - mean) / std, length_bp)
  operons = operon_track(genome_records.operons or (), length_bp, data.min_operon_genes)
  density = DensityIndex.of_genes(spans, length_bp, data.circular)
  table = TrackTable(
    tracks,
    density_mean(density, regions),
    operon_prevalence(operons, regions) if genome_records.operons is not None else 0.5,
    genome_records.expression is not None,
    genome_records.operons is not None,
  )
  rows = gene_table(genome_records, splits, log_tpm)
  return Tracks(
    genome_records.contig,
    data.circular,
    regions,
    table,
    expression,
    operons,
    rows,
    genome_records.report,
  )


def gene_table(
  genome_records: GenomeRecords, splits: Sequence[str], log_tpm: Float64[np.ndarray, "G T"]
) -> GeneTable:
  """The genes as columns, in the order of the dump."""
  genes = genome_records.genes
  of_operon = {g: o.id for o in reversed(genome_records.operons or []) for g in o.gene_ids}
  return GeneTable(
    gene_id=np.array([g.id for g in genes], np.str_),
    name=np.array([g.name for g in genes], np.str_),
    locus_tag=np.array([g.locus_tag for g in genes], np.str_),
    start=np.array([g.start for g in genes], np.int64),
    end=np.array([g.end for g in genes], np.int64),
    strand=np.array([g.strand for g in genes], np.int8),
    type=np.array([g.type for g in genes], np.str_),
    split=np.array(splits, np.str_),
    operon_id=np.array([of_operon.get(g.id, "") for g in genes], np.str_),
    fragments=tuple(spans_of(g) for g in genes),
    log_tpm=log_tpm,
  )


def operon_track(
  operons: Iterable[Operon], length_bp: int, min_genes: int
) -> UInt8[np.ndarray, "L"]:
  """1 from the first to the last base of an operon of at least `min_genes` genes, else 0.

  Source: RegulonDB, operonDatamart.
  """
  track = np.zeros(length_bp, np.uint8)
  spans = [(o.start, o.end) for o in operons if len(o.gene_ids) >= min_genes]
  for start, end in lay_out(spans, length_bp):
    track[start:end] = 1
  return track


def density_mean(density: DensityIndex, regions: Regions) -> float:
  """Genes per bin of 128 bp: mean over the whole bins of the training regions."""
  counts = [density.counts(region.start, region.length_bp // BIN_BP) for region in regions[TRAIN]]
  joined = np.concatenate(counts) if counts else np.zeros(0)
  return float(joined.mean(dtype=np.float64)) if joined.size else 0.0


def operon_prevalence(operons: UInt8[np.ndarray, "L"], regions: Regions) -> float:
  """Share of training bases in an operon, kept off 0 and 1 so that its log odds are finite."""
  spans = lay_out(regions[TRAIN], len(operons))
  inside = sum(int(operons[start:end].sum(dtype=np.int64)) for start, end in spans)
  share = inside / max(total_bp(regions[TRAIN]), 1)
  return float(np.clip(share, MIN_PREVALENCE, 1 - MIN_PREVALENCE))


def expression_tracks(
  genome_records: GenomeRecords, data: DataConfig, in_training: Bool[np.ndarray, "G"]
) -> tuple[tuple[ExpressionTrack, ...], Float64[np.ndarray, "G T"]]:
  """The tracks and log(1 + TPM) of every gene in them.

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
  tracks: list[ExpressionTrack] = []
  columns = []
  for name, datasets in expression_groups(table, genome_records.datasets, data):
    members = [table.datasets.index(d) for d in datasets]
    value = mean_where_known(logs[:, members])
    counted = in_training & ~np.isnan(value) & ((strands != 0) | (not data.stranded))
    mean, std = _statistics(name, value[counted])
    for strand in "+-" if data.stranded else ".":
      label = name if strand == "." else name + strand
      tracks.append(ExpressionTrack(label, strand, datasets, mean, std))
      columns.append(np.where(np.isin(strands, _STRANDS[strand]), value, np.nan))
  return tuple(tracks), np.stack(columns, axis=1)


def _statistics(name: str, values: Float64[np.ndarray, "G"]) -> tuple[float, float]:
  """Mean and standard deviation of a track's training genes."""
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
  """Mean over columns without NaN; NaN where there is none."""
  known = ~np.isnan(values)
  total, count = np.where(known, values, 0).sum(axis=1), known.sum(axis=1)
  return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def expression_groups(
  table: ExpressionTable, datasets: Sequence[Dataset], data: DataConfig
) -> Groups:
  """Names of the unstranded tracks with the data sets of each.

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
  """Groups by data set names, given with or without RegulonDB's prefix; sorted by group name."""
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
    found.append((_one_line(group), names))
  return found


def _condition_groups(table: ExpressionTable, datasets: Sequence[Dataset], field: str) -> Groups:
  """Groups by the value of a growth condition field; data sets without one are in none."""
  conditions = {d.name: d.conditions for d in datasets}
  groups: dict[str, list[str]] = {}
  for name in table.datasets:
    value = _one_line(conditions.get(name, {}).get(field, ""))
    if value:
      groups.setdefault(value, []).append(name)
  if not groups:
    fields = sorted({f for d in table.datasets for f in conditions.get(d, {})})
    raise ConfigError(
      f"data.expression_tracks='group:{field}': no data set has the condition field {field!r}"
      + (_nearest(field, fields) or f"; fields: {', '.join(fields) or 'none'}")
    )
  return [(value, tuple(names)) for value, names in groups.items()]


def _one_line(name: str) -> str:
  """A name without tabs and line breaks, for tables."""
  return " ".join(name.split())


def _nearest(name: str, names: Iterable[str]) -> str:
  near = nearest(name, names, similarity=0.5)
  return f"; did you mean {near!r}?" if near else ""
