"""Writers of tracks: BigWig or bedGraph, a file a track; npz or zarr arrays."""

import gzip
import io
import re
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pyBigWig
from jaxtyping import Float32

from alphaecoli.errors import DataError
from alphaecoli.files import optional, write_json
from alphaecoli.inference.prediction import TRACK_HEADS, TRACK_UNITS, UNITS, Prediction
from alphaecoli.outputs.bigwig import BigWigFile
from alphaecoli.schema import HEADS

NPZ, ZARR = "npz", "tracks.zarr"
CHUNK_VALUES = 1 << 20  # of bedGraph, converted at once
CHUNK_BP = 1 << 16  # of zarr
SPREAD = "_spread"  # after the name of a head: the deviation over an ensemble's members


def with_spread(heads: Sequence[str]) -> list[str]:
  """Adds the names under which the spreads of heads are written."""
  return [*heads, *(head + SPREAD for head in heads)]


def values_of(prediction: Prediction, name: str) -> Float32[np.ndarray, "N C"] | None:
  """Returns the values of a head, or its spread; None of a contig without one (out of fold)."""
  head = name.removesuffix(SPREAD)
  return getattr(prediction, head) if name == head else prediction.spread.get(head)


class TrackWriter(Protocol):
  """What writes the tracks of a genome in one format."""

  def write(self, contig: str, prediction: Prediction) -> None:
    """Adds a contig; they come sorted by name (in bytes)."""

  def close(self) -> None:
    """Completes the files."""

  def describe(self, units: str) -> list[dict[str, Any]]:
    """Lists the files, for the manifest."""


def track_files(
  tracks: Sequence[str], heads: Sequence[str] = TRACK_HEADS, suffix: str = ".bw"
) -> dict[tuple[str, int], str]:
  """Names the file of each (head, column), as `safe_names` spells it."""
  stems = {
    (head, column): head + (f".{track}" if track else "")
    for head in heads
    for column, track in enumerate(tracks if head.startswith("gene_expression") else [""])
  }
  names = safe_names(list(stems.values()))
  return {key: name + suffix for key, name in zip(stems, names, strict=True)}


def safe_names(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
  """Makes names for files, different from each other in any letter case.

  Characters other than A-Z a-z 0-9 . + - _ and a dot at the start are replaced; where two names
  would then be the same, or one is `taken`, the later one gets a number.
  """
  found: list[str] = []
  used = {name.lower() for name in taken}
  for number, name in enumerate(names):
    stem = re.sub(r"^\.|[^A-Za-z0-9.+_-]", "_", name) or "_"
    safe = stem
    while safe.lower() in used:
      safe = f"{stem}_{number}"
      stem += "_"
    used.add(safe.lower())
    found.append(safe)
  return found


def attributes(prediction: Prediction, name: str) -> dict[str, Any]:
  """Describes one array."""
  head = name.removesuffix(SPREAD)
  return {
    "units": prediction.track_units[head],
    "resolution_bp": HEADS[head].resolution_bp,
    "tracks": list(prediction.tracks) if head == "gene_expression" else [name],
  }


def check_finite(contig: str, prediction: Prediction, heads: tuple[str, ...]) -> None:
  """Raises DataError where a trained head gives a value that is not finite."""
  for head in heads:
    values = getattr(prediction, head)
    if not np.isfinite(values).all():
      row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
      base = row * HEADS[head].resolution_bp
      raise DataError(
        f"the model gives {values[row][~np.isfinite(values[row])][0]} for {head} at base {base} of "
        f"{contig}; its parameters or running statistics are not finite"
      )


def read_bigwig(path: Path, contig: str, start: int, end: int) -> Float32[np.ndarray, " S"]:
  """Reads the values of one track, base by base."""
  try:
    with pyBigWig.open(str(path)) as file:
      return np.asarray(file.values(contig, start, end, numpy=True), np.float32)
  except (OSError, RuntimeError) as error:
    raise DataError(f"{path}: can not be read: {error}") from error


def size_of(path: Path) -> int:
  """Adds up the bytes of a file, or of all files of a folder."""
  files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
  return sum(p.stat().st_size for p in files)


def remove(path: Path) -> None:
  """Removes a file or a folder, if there is one."""
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


class BedGraphFile:
  """One bedGraph: a line for each run of equal values, with six significant digits."""

  def __init__(self, path: Path, contigs: Sequence[tuple[str, int]], span_bp: int = 1):
    """Opens the file; gzip where its name ends in .gz. Arguments as for `BigWigFile`."""
    self.path, self.span_bp = path, span_bp
    self._lengths = dict(contigs)
    try:
      raw = open(path, "wb")  # noqa: SIM115
    except OSError as error:
      raise DataError(f"{path}: can not be written: {error.strerror}") from error
    packed = path.name.endswith(".gz")
    self._raw = raw
    binary: Any = gzip.GzipFile("", "wb", 6, raw, mtime=0) if packed else raw
    self._file = io.TextIOWrapper(binary, encoding="utf-8")

  def write(self, contig: str, values: Float32[np.ndarray, " N"]) -> None:
    """Adds all values of one contig; the last run is clipped to the contig's end."""
    length = self._lengths[contig]
    first = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    starts = first * self.span_bp
    ends = np.append(starts[1:], length)
    try:
      for at in range(0, len(first), CHUNK_VALUES):
        part = slice(at, at + CHUNK_VALUES)
        rows = zip(starts[part].tolist(), ends[part].tolist(), values[first[part]].tolist())  # noqa: B905
        self._file.write("".join(f"{contig}\t{a}\t{b}\t{v:.6g}\n" for a, b, v in rows))
    except OSError as error:
      raise DataError(f"{self.path}: can not be written: {error.strerror}") from error

  def close(self) -> None:
    """Completes the file."""
    self._file.close()
    self._raw.close()  # gzip leaves it open


class TrackFiles:
  """All tracks of a genome, one file each."""

  suffix: ClassVar[str]
  file_type: ClassVar[type[BigWigFile] | type[BedGraphFile]]

  def __init__(
    self,
    folder: Path,
    contigs: Sequence[tuple[str, int]],
    tracks: Sequence[str],
    heads: Sequence[str] = TRACK_HEADS,
  ):
    """Opens the files.

    Args:
      folder: folder of the files.
      contigs: names and lengths; write them in the order of `self.order`.
      tracks: names of the expression tracks.
      heads: heads to write, and spreads of heads.

    Raises:
      DataError: the folder can not be written to.
    """
    self.order = sorted(contigs, key=lambda contig: contig[0].encode())
    self.files = track_files(tracks, heads, self.suffix)
    self._tracks = tracks
    self._open = {
      (head, column): self.file_type(
        folder / name, self.order, HEADS[head.removesuffix(SPREAD)].resolution_bp
      )
      for (head, column), name in self.files.items()
    }

  def write(self, contig: str, prediction: Prediction) -> None:
    """Adds one contig.

    Raises:
      DataError: the disk is full.
    """
    for (head, column), file in self._open.items():
      if (values := values_of(prediction, head)) is not None:
        file.write(contig, values[:, column])

  def close(self) -> None:
    """Completes the files."""
    for file in self._open.values():
      file.close()

  def describe(self, units: str) -> list[dict[str, Any]]:
    """Lists each file with its head, track, units and resolution."""
    words = {"gene_expression": UNITS[units], **TRACK_UNITS}
    return [
      {
        "file": name,
        "head": head,
        "track": self._tracks[column] if head.startswith("gene_expression") else head,
        "units": words[head.removesuffix(SPREAD)],
        "resolution_bp": HEADS[head.removesuffix(SPREAD)].resolution_bp,
      }
      for (head, column), name in self.files.items()
    ]


class BigWigTracks(TrackFiles):
  """BigWig, for genome browsers."""

  suffix, file_type = ".bw", BigWigFile

  @property
  def largest(self) -> dict[str, float]:
    """Returns the largest value of each file, once all are written."""
    files = (file for file in self._open.values() if isinstance(file, BigWigFile))
    return {file.path.name: file.largest for file in files}


class BedGraphTracks(TrackFiles):
  """bedGraph, plain text."""

  suffix, file_type = ".bedgraph", BedGraphFile


class PackedBedGraphTracks(TrackFiles):
  """bedGraph, gzip."""

  suffix, file_type = ".bedgraph.gz", BedGraphFile


class NpzArrays:
  """A folder `npz`: one file a contig with one array a head, and attributes.json."""

  def __init__(
    self,
    folder: Path,
    contigs: Sequence[tuple[str, int]],
    tracks: Sequence[str],
    heads: Sequence[str] = TRACK_HEADS,
  ):
    """Makes the folder. Arguments as for `TrackFiles`."""
    self._folder, self._heads = folder / NPZ, heads
    self._folder.mkdir()
    safe = safe_names([name for name, _ in contigs])
    self._names = {contig: name for (contig, _), name in zip(contigs, safe, strict=True)}
    self._metadata: dict[str, Any] = {"contigs": {}, "arrays": {}}

  def write(self, contig: str, prediction: Prediction) -> None:
    """Adds one contig."""
    name = self._names[contig] + ".npz"
    found: dict[str, Any] = {head: values_of(prediction, head) for head in self._heads}
    np.savez(self._folder / name, **{k: v for k, v in found.items() if v is not None})
    self._metadata["contigs"][contig] = {"file": name, "circular": prediction.circular}
    self._metadata["arrays"] = {head: attributes(prediction, head) for head in self._heads}

  def close(self) -> None:
    """Writes the attributes."""
    write_json(self._folder / "attributes.json", self._metadata)

  def describe(self, units: str) -> list[dict[str, Any]]:
    """Lists the folder, for the manifest."""
    return [{"file": NPZ, "format": "npz", "heads": list(self._heads)}]


class ZarrArrays:
  """A zarr (version 3) store `tracks.zarr`: one group a contig with one array a head."""

  def __init__(
    self,
    folder: Path,
    contigs: Sequence[tuple[str, int]],
    tracks: Sequence[str],
    heads: Sequence[str] = TRACK_HEADS,
  ):
    """Makes the store. Arguments as for `TrackFiles`."""
    self._heads, self._zarr = heads, optional("zarr", "formats")
    self._root = self._zarr.open_group(str(folder / ZARR), mode="w", zarr_format=3)
    safe = safe_names([name for name, _ in contigs])
    self._names = {contig: name for (contig, _), name in zip(contigs, safe, strict=True)}
    self._root.attrs["contigs"] = self._names

  def write(self, contig: str, prediction: Prediction) -> None:
    """Adds one contig."""
    metadata = {"contig": contig, "circular": prediction.circular}
    group = self._root.create_group(self._names[contig], attributes=metadata)
    for head in self._heads:
      values = values_of(prediction, head)
      if values is None:
        continue
      rows = "bin" if HEADS[head.removesuffix(SPREAD)].resolution_bp > 1 else "position"
      group.create_array(
        head,
        data=values,
        chunks=(min(CHUNK_BP, len(values)), values.shape[1]),
        attributes=attributes(prediction, head),
        dimension_names=(f"{rows}", f"{head}_track"),
      )
    self._consolidate(group)

  def close(self) -> None:
    """Writes the consolidated metadata of the whole store."""
    self._consolidate(self._root)

  def _consolidate(self, group: Any) -> None:
    """Writes the metadata of a group's members beside its own, where xarray looks for them."""
    with warnings.catch_warnings():  # that the specification of zarr 3 does not have it yet
      warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
      self._zarr.consolidate_metadata(group.store, path=group.path)

  def describe(self, units: str) -> list[dict[str, Any]]:
    """Lists the store, for the manifest."""
    return [{"file": ZARR, "format": "zarr", "heads": list(self._heads)}]
