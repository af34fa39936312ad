"""Building of a track store from a dump and a genome, unless the same one exists already."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alphaecoli.config import base_config
from alphaecoli.errors import DataError
from alphaecoli.files import AnyPath, hash_file, is_remote
from alphaecoli.genomics.genes import GenomeRecords, gene_kind
from alphaecoli.genomics.quality import QualityReport, shown
from alphaecoli.regulondb.dump import (
  BUILTIN,
  NLP_CONDITIONS,
  RANDOM,
  DumpProgress,
  builtin_genome,
  find_collection,
  read_dump,
  read_genome,
  resolve_dump,
)
from alphaecoli.schema import DATA_BEFORE, Config, DataConfig
from alphaecoli.tracks.build import Tracks
from alphaecoli.tracks.replicons import build_tracks
from alphaecoli.tracks.store import FORMAT_VERSION, TrackStore, open_store
from alphaecoli.tracks.track_table import tracks_folder
from alphaecoli.tracks.write import fetch_store, share_store, write_store

LOGGER = logging.getLogger(__name__)
COLLECTIONS = ("geneDatamart", "operonDatamart", "geneExpression", "dataset", NLP_CONDITIONS)
GENOME = "genome"
RANDOM_GENOME_SEED = 0
# Keys that change how windows are cut, not the content of the store; dump and genome are hashed.
NOT_IN_STORE = (
  "dump",
  "genome",
  "stores",
  "store_weights",
  "window_bp",
  "read_threads",
  "prefetch",
  "store_dir",
  "reverse_complement",
)


def process_data(
  config: Config, workdir: AnyPath, progress: DumpProgress | None = None
) -> TrackStore:
  """Opens the track store of a configuration, building it first where it does not exist.

  Stores lie in `data.store_dir`, or in `<workdir>/tracks`, and are named by a hash of the bytes of
  all inputs, the configuration that matters to them and the version of the format: the same inputs
  and configuration use one store, others never do. Where the work directory is in a bucket, they
  lie in tracks/ of the user's cache, and its own tracks/ holds a copy, for other machines.

  Args:
    config: configuration with the `data` section.
    workdir: directory of the run.
    progress: callback while geneExpression is read.

  Raises:
    ConfigError: a data set, condition field or track of the configuration has no data.
    DataError: an input is missing or broken, the store is broken, or can not be written.
  """
  data = config.data
  path, metadata = locate_store(data, workdir)
  copy = workdir / "tracks" / path.name if is_remote(workdir) else None
  if copy is not None:
    fetch_store(copy, path)
  if path.exists():
    store = open_store(path)
    if store.fingerprint != metadata["fingerprint"]:
      raise DataError(f"{path}: holds another track store; delete it and run again")
    LOGGER.info("track store %s: inputs and configuration are the same, used again", path)
    if copy is not None:
      share_store(path, copy)
    return store
  LOGGER.info("building the track store %s", path)
  report = QualityReport()
  contig = read_genome(data, report, seed=RANDOM_GENOME_SEED)
  genome_records = read_dump(data.dump, contig, data, report, progress)
  tracks = build_tracks([(genome_records, data)])
  say_unused(tracks[0], genome_records, data)
  store = write_store(path, tracks, metadata)
  LOGGER.info("%s", report.table())
  LOGGER.info("track store %s is complete", path)
  if copy is not None:
    share_store(path, copy)
  return store


def say_unused(tracks: Tracks, genome_records: GenomeRecords, data: DataConfig) -> None:
  """Warns of, and counts, what the configuration names and no gene has, and unused data sets."""
  report, usual = genome_records.report, base_config().data
  there = {gene.type for gene in genome_records.genes}
  types = ", ".join(sorted(there)[:12])
  for kind in dict.fromkeys(data.exclude_gene_types):
    if kind not in usual.exclude_gene_types and not report[f"gene of excluded type {kind}"]:
      LOGGER.warning("data.exclude_gene_types: no gene of type %r; there are %s", kind, types)
      report.count("excluded gene type that no gene has", 1, kind)
  kinds = {gene_kind(kind) for kind in there}
  for kind in dict.fromkeys(data.unknown_expression_types):
    if kind not in usual.unknown_expression_types and gene_kind(kind) not in kinds:
      LOGGER.warning("data.unknown_expression_types: no gene of type %r; there are %s", kind, types)
      report.count("type of unknown expression that no gene has", 1, kind)
  table = genome_records.expression
  used = {name for track in tracks.table.expression for name in track.datasets}
  unused = [name for name in (table.datasets if table else ()) if name not in used]
  for name in unused:
    report.count("data set in no expression track", dataset=name)
  if unused:
    LOGGER.warning("%d data sets are in no expression track: %s", len(unused), shown(unused))


def locate_store(data: DataConfig, workdir: AnyPath) -> tuple[Path, dict[str, Any]]:
  """Returns the path of the store of a dump, present or not, and its `store_metadata`.

  Raises:
    DataError: the dump's directory or the genome is missing.
  """
  folder = Path(data.store_dir).expanduser() if data.store_dir else tracks_folder(workdir)
  source = data.genome if data.genome in (BUILTIN, RANDOM) else "file"
  seed = RANDOM_GENOME_SEED if source == RANDOM else None
  more = {"genome_source": source, "genome_seed": seed}
  metadata = store_metadata(data, input_files(data), more)
  return folder / metadata["fingerprint"][:16], metadata


def input_files(data: DataConfig) -> dict[str, Path]:
  """Returns the files that a configuration reads: collections by name, and `genome`.

  Raises:
    DataError: the dump's directory or the genome is missing.
  """
  root = resolve_dump(data.dump)
  found = {name: find_collection(root, name) for name in COLLECTIONS}
  if data.genome != RANDOM:
    path = builtin_genome() if data.genome == BUILTIN else Path(data.genome).expanduser()
    if not path.is_file():
      raise DataError(f"{path}: no such genome file; expected a FASTA, plain or gzip")
    found[GENOME] = path
  return {name: path for name, path in found.items() if path is not None}


def store_metadata(
  data: DataConfig, files: Mapping[str, Path], more: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the entries of a manifest that decide a store's content, and a hash of them.

  Args:
    data: data section of the configuration.
    files: input files by name.
    more: further values that decide the content.

  Raises:
    DataError: a file can not be read.
  """
  inputs = {name: _describe(path) for name, path in files.items()}
  # A key that came later is left out where it changes nothing: stores from before are found again.
  settings = {
    k: v
    for k, v in dataclasses.asdict(data).items()
    if k not in NOT_IN_STORE and (k not in DATA_BEFORE or v != DATA_BEFORE[k])
  }
  content = {
    "format_version": FORMAT_VERSION,
    "inputs": {name: metadata["sha256"] for name, metadata in inputs.items()},
    "config": settings,
    **more,
  }
  text = json.dumps(content, sort_keys=True)
  kept = {key: value for key, value in more.items() if value is not None}
  return {
    "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
    "inputs": inputs,
    "config": settings,
    **kept,
  }


def _describe(path: Path) -> dict[str, Any]:
  """Returns the manifest's entry of an input file: name, size and hash.

  Raises:
    DataError: the file can not be read.
  """
  try:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": hash_file(path)}
  except OSError as error:
    raise DataError(f"{path}: can not be read ({error.strerror or error})") from error
