"""Genomes of one or several contigs as one organism: tracks with common statistics, folds.

Chromosomes and plasmids keep coordinates, topology and splits of their own; what a track is scaled
with is common to them (docs/decisions/0002-replicons.md).
"""

import dataclasses
import hashlib
import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from alphaecoli.errors import ConfigError, nearest
from alphaecoli.genomics.genes import GenomeRecords
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.sequence import Contig
from alphaecoli.schema import PAIR_BP, DataConfig
from alphaecoli.tracks.build import (
  Tracks,
  check_operons,
  density_mean,
  expression_tracks,
  operon_membership,
  operon_prevalence,
  track_statistics,
)
from alphaecoli.tracks.gene_table import GeneTable, possible_operons
from alphaecoli.tracks.gene_targets import DensityIndex, mean_of_genes
from alphaecoli.tracks.splits import (
  SPLITS,
  TEST,
  TRAIN,
  VALIDATION,
  Region,
  Regions,
  configured_regions,
  split_of,
)
from alphaecoli.tracks.store import TrackStore, open_store
from alphaecoli.tracks.track_table import ExpressionTrack, TrackTable
from alphaecoli.tracks.write import write_store

LOGGER = logging.getLogger(__name__)
SHORTEST_WINDOW_BP = PAIR_BP
Replicons = Sequence[tuple[GenomeRecords, DataConfig]]  # of each contig, the longest first


class _Replicon(NamedTuple):
  """What `Tracks` has of a contig, without statistics and what is scaled with them."""

  contig: Contig
  circular: bool
  regions: Regions
  operons: UInt8[np.ndarray, "L"]
  genes: GeneTable
  report: QualityReport
  settings: Mapping[str, Any]


def build_tracks(genome: Replicons) -> tuple[Tracks, ...]:
  """Computes every track of each contig, and statistics over the training splits of all.

  Raises:
    ConfigError: a data set, condition field or track of the configuration has no data, or no operon
      the evidence that it asks for.
    DataError: none of the operons can be.
  """
  operons = possible_operons([records for records, _ in genome])
  replicons = [
    (dataclasses.replace(records, operons=possible), data)
    for (records, data), possible in zip(genome, operons, strict=True)
  ]
  records, data = pooled([records for records, _ in replicons]), replicons[0][1]
  regions = divide(replicons)
  splits = [
    [split_of(gene.start, gene.end, of_contig, own.contig.length_bp) for gene in own.genes]
    for (own, _), of_contig in zip(replicons, regions, strict=True)
  ]
  in_training = np.array([s == TRAIN for s in itertools.chain(*splits)], bool)
  tracks, log_tpm = expression_tracks(records, data, in_training)
  edges = np.cumsum([0, *map(len, splits)])
  found = tuple(
    _Replicon(
      own.contig,
      settings.circular,
      regions[i],
      operon_membership(own, settings),
      GeneTable.of(own, splits[i], log_tpm[edges[i] : edges[i + 1]]),
      own.report,
      _differences(settings, data),
    )
    for i, (own, settings) in enumerate(replicons)
  )
  given = records.expression is not None, records.operons is not None
  complete = _complete(found, tracks, *given)
  if records.operons is not None:
    check_operons(records, complete[0].table.operon_prevalence, data)
  return complete


def _differences(settings: DataConfig, data: DataConfig) -> dict[str, Any]:
  """Returns the keys that a contig has otherwise than the longest one."""
  ours, theirs = dataclasses.asdict(settings), dataclasses.asdict(data)
  return {key: value for key, value in ours.items() if value != theirs[key]}


def _complete(
  replicons: Sequence[_Replicon],
  tracks: tuple[ExpressionTrack, ...],
  has_expression: bool,
  has_operons: bool,
) -> tuple[Tracks, ...]:
  """Computes the statistics over the contigs' training regions, and scales expression."""
  density = [
    (DensityIndex.of_genes(r.genes.fragments, r.contig.length_bp, r.circular), r.regions)
    for r in replicons
  ]
  known = [(r.operons, r.regions) for r in replicons]
  prevalence = operon_prevalence(known) if has_operons else 0.5
  table = TrackTable(tracks, density_mean(density), prevalence, has_expression, has_operons)
  mean, std = (np.array([getattr(track, key) for track in tracks]) for key in ("mean", "std"))
  expression = [
    mean_of_genes(r.genes.fragments, (r.genes.log_tpm - mean) / std, r.contig.length_bp)
    for r in replicons
  ]
  return tuple(
    Tracks(table=table, expression=z, **own._asdict())
    for own, z in zip(replicons, expression, strict=True)
  )


def pooled(replicons: Sequence[GenomeRecords]) -> GenomeRecords:
  """Returns the genes, operons and expression of all contigs as records of the first."""
  first, *others = replicons
  if not others:
    return first
  operons = None if first.operons is None else [o for own in replicons for o in own.operons or ()]
  expression = first.expression
  if expression is not None:
    tables = [own.expression for own in replicons if own.expression is not None]
    names = tuple(itertools.chain(*(table.gene_ids for table in tables)))
    tpm = np.concatenate([table.tpm for table in tables])
    expression = dataclasses.replace(expression, gene_ids=names, tpm=tpm)
  genes = [gene for own in replicons for gene in own.genes]
  return dataclasses.replace(first, genes=genes, operons=operons, expression=expression)


def divide(genome: Replicons) -> list[Regions]:
  """Divides contigs into splits; one whose blocks are shorter than a window is for training alone.

  The longest, which comes first, is divided whatever its blocks are: else nothing were held out.
  """
  found: list[Regions] = []
  for records, data in genome:
    length_bp = records.contig.length_bp
    regions = configured_regions(dataclasses.asdict(data), length_bp, data.circular)
    if found and shortest_bp(regions) < data.window_bp:
      regions = {TRAIN: (Region(0, length_bp),), VALIDATION: (), TEST: ()}
    found.append(regions)
  return found


def shortest_bp(regions: Regions) -> int:
  """Returns the length of the shortest region of all splits."""
  return min(region.length_bp for of_split in regions.values() for region in of_split)


def describe(genome: Replicons) -> dict[str, str]:
  """Says what the contigs beside the longest are for, which `data.window_bp` decides.

  Raises:
    ConfigError: no window of any length fits into the blocks of the longest.
  """
  regions = divide(genome)
  (first, data), held_bp = genome[0], shortest_bp(regions[0])
  if held_bp < SHORTEST_WINDOW_BP:
    raise ConfigError(
      f"{first.contig.name} ({first.contig.length_bp} bp) can not be trained on: divided into "
      f"data.n_blocks={data.n_blocks} it has regions of {held_bp} bp, and the shortest window is "
      f"{SHORTEST_WINDOW_BP}; use fewer data.n_blocks, or a longer contig"
    )
  if held_bp < data.window_bp:
    LOGGER.warning(
      "data.window_bp=%d is longer than the shortest region of %s: train with "
      "--config.data.window_bp=%d at most, or prepare with fewer data.n_blocks",
      data.window_bp, first.contig.name, held_bp // PAIR_BP * PAIR_BP,
    )  # fmt: skip
  roles = {}
  for (records, _), of_contig in zip(genome[1:], regions[1:], strict=True):
    roles[records.contig.name] = ", ".join(name for name in SPLITS if of_contig[name])
    words = "divided into splits" if of_contig[TEST] else "for training alone, as its blocks are "
    words += "" if of_contig[TEST] else f"shorter than data.window_bp={data.window_bp}"
    LOGGER.info("%s (%d bp) is %s", records.contig.name, records.contig.length_bp, words)
  return roles


def divided(store: TrackStore, fold: int) -> TrackStore:
  """Returns a store with the splits of another fold; z-scores and statistics stay its own."""
  manifest = store.manifest
  if store.regions(TRAIN) != (Region(0, store.length_bp),):
    regions = configured_regions(manifest["config"], store.length_bp, store.circular, fold)
    manifest = {**manifest, "splits": regions}
  return TrackStore(store.path, manifest, [divided(other, fold) for other in store.replicons[1:]])


def alone(store: TrackStore) -> TrackStore:
  """Returns the store of one contig, without those within it."""
  return TrackStore(store.path, store.manifest)


def choose_contig(store: TrackStore, name: str | None) -> TrackStore:
  """Returns the store of a contig of a genome, by default of the longest.

  Raises:
    ConfigError: it has no contig of that name.
  """
  found = {own.contig: own for own in store.replicons}
  if name is not None and name not in found:
    near = nearest(name, found)
    raise ConfigError(f"--contig={name}: not in {store.path}; nearest: {near}")
  return alone(store if name is None else found[name])


def fold_of(store: TrackStore, fold: int, folder: Path) -> Path:
  """Returns the path of a prepared store with the splits of a fold, there or not: see `refold`."""
  if store.manifest["config"]["fold"] == fold:
    return store.path.absolute()
  return folder.absolute() / _fold_fingerprint(store, fold)[:16]


def _fold_fingerprint(store: TrackStore, fold: int) -> str:
  """Returns the fingerprint of a store with the splits of another fold."""
  return hashlib.sha256(f"{store.fingerprint} fold {fold}".encode()).hexdigest()


def refold(store: TrackStore, fold: int, folder: Path) -> TrackStore:
  """Opens a prepared store with the splits of a fold, writing it first where it is not there.

  Genes and operons are the store's; statistics, and what is scaled with them, are computed again
  over the training splits of the fold, from the store's gene table.

  Args:
    store: prepared store, of any fold.
    fold: validation fold.
    folder: receiver of the store, named by a hash.

  Raises:
    ConfigError: a track has no training gene.
    DataError: the store can not be written.
  """
  path = fold_of(store, fold, folder)
  if path.exists():
    return open_store(path)
  replicons = [_divided_replicon(own) for own in divided(store, fold).replicons]
  table = store.table
  tracks = _standardised(table, [r.genes for r in replicons])
  found = _complete(replicons, tracks, table.has_expression, table.has_operons)
  kept = ("inputs", "config", "genome_source", "organism", "contig_name", "expression_values",
          "readers", "replicons")  # fmt: skip
  metadata = {key: store.manifest[key] for key in kept if key in store.manifest}
  metadata["config"] = {**metadata["config"], "fold": fold}
  metadata["fingerprint"] = _fold_fingerprint(store, fold)
  LOGGER.info("fold %d of %s: writing the track store %s", fold, store.path, path)
  return write_store(path, found, metadata)


def _divided_replicon(store: TrackStore) -> _Replicon:
  """Takes a contig's store apart; the genes' splits follow from its regions."""
  regions = {name: store.regions(name) for name in SPLITS}
  genes, length_bp = store.genes, store.length_bp
  splits = [
    split_of(int(a), int(b), regions, length_bp)
    for a, b in zip(genes.start, genes.end, strict=True)
  ]
  contig = Contig(store.contig, store.sequence, store.manifest["contig"]["description"])
  config = store.manifest["config"]
  return _Replicon(
    contig,
    store.circular,
    regions,
    np.asarray(store.operon_membership),
    dataclasses.replace(genes, split=np.array(splits, np.str_)),
    QualityReport.from_json(store.quality),
    {key: config[key] for key in ("circular", "unlisted_genes") if key in config},
  )


def _standardised(table: TrackTable, genes: Sequence[GeneTable]) -> tuple[ExpressionTrack, ...]:
  """Returns the tracks with mean and deviation over the training genes; of both of a pair alike."""
  if not table.has_expression:
    return table.expression
  log_tpm = np.concatenate([own.log_tpm[own.split == TRAIN] for own in genes])
  stems = [t.name if t.strand == "." else t.name[:-1] for t in table.expression]
  found = []
  for track, stem in zip(table.expression, stems, strict=True):
    values = log_tpm[:, [other == stem for other in stems]]
    mean, std = track_statistics(stem, values[~np.isnan(values)])
    found.append(dataclasses.replace(track, mean=mean, std=std))
  return tuple(found)
