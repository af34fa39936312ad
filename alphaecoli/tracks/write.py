"""Writing of a track store: all files under a temporary name, then one rename.

A store is read on this machine. What is in a bucket is a copy for other machines, complete when its
manifest is there.
"""

import hashlib
import importlib.metadata
import logging
import os
import platform
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alphaecoli import __version__
from alphaecoli.errors import DataError
from alphaecoli.files import (
  AnyPath,
  as_path,
  copy_folder,
  hash_file,
  is_remote,
  read_json,
  write_json,
)
from alphaecoli.tracks.build import Tracks
from alphaecoli.tracks.gene_table import write_genes
from alphaecoli.tracks.splits import total_bp
from alphaecoli.tracks.store import (
  ARRAYS,
  FILES,
  FORMAT,
  FORMAT_VERSION,
  GENES,
  MANIFEST,
  MASKED_VERSION,
  PARTIAL_SUFFIX,
  QUALITY,
  REPLICONS_VERSION,
  TrackStore,
  open_store,
  replicon_folder,
)
from alphaecoli.tracks.track_table import UNKNOWN_OPERON, tracks_folder

LOGGER = logging.getLogger(__name__)

_CHUNK_BP = 1 << 18
_SOFTWARE = ("numpy", "pymongo")


def write_store(path: Path, genome: Sequence[Tracks], metadata: Mapping[str, Any]) -> TrackStore:
  """Writes a store that is either whole or absent.

  Several writers may write the same store at once: the first to finish wins, the others use it.

  Args:
    path: directory of the store; missing parents are created.
    genome: content of the store; that of the other contigs' stores after it.
    metadata: further entries of the manifest: the fingerprint, config and, where there are other
      contigs, `replicons`, what each of them is for.

  Raises:
    DataError: the store can not be written; names the directory and the reason.
  """
  partial = path.parent / f".{path.name}-{uuid.uuid4().hex[:8]}{PARTIAL_SUFFIX}"
  try:
    partial.mkdir(parents=True)
    for i, tracks in enumerate(genome[1:]):
      _write_files(partial / replicon_folder(i), tracks, _of_replicon(metadata, i, tracks))
    _write_files(partial, genome[0], metadata)
    _rename(partial, path)
  except (OSError, DataError) as error:
    reason = getattr(error, "strerror", None) or error
    raise DataError(
      f"{path}: can not write the track store ({reason}); set data.store_dir to a directory with "
      "room"
    ) from error
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  return open_store(path)


def fetch_store(source: AnyPath, path: Path) -> None:
  """Copies a store from a bucket, unless it is here, or not there.

  Raises:
    DataError: it can not be read or written, or is not what was copied there.
  """
  if path.exists() or not (source / MANIFEST).exists():
    return
  LOGGER.info("copying the track store %s to %s", source, path)
  partial = path.parent / f".{path.name}-{uuid.uuid4().hex[:8]}.copy"
  try:
    copy_folder(source, partial)
    open_store(partial).verify()
    _rename(partial, path)
  except DataError as error:
    raise DataError(str(error).replace(str(partial), str(source))) from error
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def share_store(path: Path, target: AnyPath) -> None:
  """Copies a store into a bucket, unless it is there.

  Raises:
    DataError: it can not be written.
  """
  if not (target / MANIFEST).exists():
    LOGGER.info("copying the track store to %s", target)
    copy_folder(path, target, last=MANIFEST)


def open_prepared(path: str) -> TrackStore:
  """Opens a store that a user names; of one in a bucket the copy on this machine, made if needed.

  Raises:
    ConfigError: what reads buckets is not installed, or there is to be no cache.
    DataError: there is none, or it is broken.
  """
  named = as_path(path).expanduser()
  if not is_remote(named):
    return open_store(named)
  fingerprint = str(read_json(named / MANIFEST).get("fingerprint"))
  here = tracks_folder(named) / fingerprint[:16]
  fetch_store(named, here)
  return open_store(here)


def _rename(partial: Path, path: Path) -> None:
  """Gives the complete store its name, unless another writer was faster."""
  try:
    partial.rename(path)
  except OSError:
    if not (path / MANIFEST).is_file():
      raise
    return
  _sync(path.parent)


def _of_replicon(metadata: Mapping[str, Any], index: int, tracks: Tracks) -> dict[str, Any]:
  """Returns the entries of the manifest of a further contig's store."""
  found = {key: value for key, value in metadata.items() if key != "replicons"}
  fingerprint = hashlib.sha256(f"{metadata['fingerprint']} {index}".encode()).hexdigest()
  settings = {**metadata["config"], **tracks.settings}
  name = {"contig_name": tracks.contig.name} if "contig_name" in found else {}
  return {**found, **name, "config": settings, "fingerprint": fingerprint}


def _write_files(directory: Path, tracks: Tracks, metadata: Mapping[str, Any]) -> None:
  """Writes the store of one contig, the manifest last."""
  directory.mkdir(exist_ok=True)
  _save(directory / "sequence.npy", np.ascontiguousarray(tracks.contig.codes))
  _save(directory / "operon_membership.npy", tracks.operons)
  length_bp, n_tracks = len(tracks.contig.codes), len(tracks.table.expression)
  with (directory / "gene_expression.npy").open("wb") as file:
    header = {"descr": "<f4", "fortran_order": False, "shape": (length_bp, n_tracks)}
    np.lib.format.write_array_header_1_0(file, header)
    for start in range(0, length_bp, _CHUNK_BP):  # many tracks need not fit into memory
      tracks.expression.dense(start, min(start + _CHUNK_BP, length_bp)).tofile(file)
    os.fsync(file.fileno())
  write_genes(directory / GENES, tracks.genes, tracks.table.names)
  write_json(directory / QUALITY, tracks.report.to_json())
  write_json(directory / MANIFEST, _manifest(directory, tracks, metadata))


def _save(path: Path, array: np.ndarray) -> None:
  """Writes an array and waits until it is on the disk."""
  with path.open("wb") as file:
    np.save(file, array, allow_pickle=False)
    os.fsync(file.fileno())


def _sync(directory: Path) -> None:
  """Makes a rename permanent, even through a power failure."""
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _manifest(directory: Path, tracks: Tracks, metadata: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the content of manifest.json, without time and place: equal stores are equal."""
  arrays = {
    name: np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS
  }
  genes = tracks.genes
  masked = bool((tracks.operons == UNKNOWN_OPERON).any())
  version_written = MASKED_VERSION if masked else FORMAT_VERSION
  return {
    "format": FORMAT,
    "format_version": REPLICONS_VERSION if "replicons" in metadata else version_written,
    **metadata,
    "contig": {
      "name": tracks.contig.name,
      "description": tracks.contig.description,
      "length_bp": len(tracks.contig.codes),
      "circular": tracks.circular,
    },
    "tracks": tracks.table.to_json(),
    "splits": {
      name: [list(region) for region in regions] for name, regions in tracks.regions.items()
    },
    "statistics": {
      "density_mean": tracks.table.density_mean,
      "operon_prevalence": tracks.table.operon_prevalence,
      "bases": {name: total_bp(regions) for name, regions in tracks.regions.items()},
      "genes": {
        str(s): int(n) for s, n in zip(*np.unique(genes.split, return_counts=True), strict=True)
      },
      "genes_with_expression": {
        name: int(n)
        for name, n in zip(tracks.table.names, (~np.isnan(genes.log_tpm)).sum(axis=0), strict=True)
      },
    },
    "arrays": {
      name: {"dtype": array.dtype.name, "shape": list(array.shape)}
      for name, array in arrays.items()
    },
    "files": {
      name: {"bytes": (directory / name).stat().st_size, "sha256": hash_file(directory / name)}
      for name in FILES
    },
    "quality": {"totals": tracks.report.totals, "problems": tracks.report.reasons},
    "software": {
      "alphaecoli": __version__,
      "python": platform.python_version(),
      **{name: importlib.metadata.version(name) for name in _SOFTWARE},
    },
  }
