"""The track store: a directory of plain arrays that describes itself, and its windows.

Its files are `FILES` and a manifest. Reading needs numpy alone. A store is of one contig; where a
genome has several, that of the longest one holds those of the others, each in a folder of its own.
"""

import functools
import json
import os
import tokenize
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from alphaecoli.errors import ConfigError, DataError, brief, reason_of
from alphaecoli.files import hash_file, read_json
from alphaecoli.genomics.genes import Annotation
from alphaecoli.schema import ALL_OPERONS, BIN_BP, DATA_BEFORE, HEADS, UNKNOWN
from alphaecoli.tracks.gene_table import GeneTable, read_genes
from alphaecoli.tracks.gene_targets import DensityIndex, GeneTargets, gene_targets
from alphaecoli.tracks.splits import Region
from alphaecoli.tracks.track_table import UNKNOWN_OPERON, TrackTable

FORMAT = "alphaecoli-track-store"
FORMAT_VERSION = 1  # raise it when the files, or the values in them, come to mean something else
MASKED_VERSION = 2  # as 1, with UNKNOWN_OPERON in operon_membership
REPLICONS_VERSION = 3  # as 2, with the stores of other contigs
VERSIONS = (FORMAT_VERSION, MASKED_VERSION, REPLICONS_VERSION)
MANIFEST, GENES, QUALITY = "manifest.json", "genes.tsv", "quality.json"
ARRAYS = ("sequence", "gene_expression", "operon_membership")
FILES = (*(f"{name}.npy" for name in ARRAYS), GENES, QUALITY)
PARTIAL_SUFFIX = ".partial"  # of a directory that is being written
_MAKE = "alphaecoli.prepare, or alphaecoli.train --process-data-only"
_REBUILD = f"delete the store and make it again with {_MAKE}"
WEIGHTED = ("gene_expression", "operon_junction")  # targets whose bases have weights
Window = dict[str, np.ndarray]
PathLike = str | os.PathLike[str]


class TrackStore:
  """A store, open for reading. Arrays are memory-mapped when first used; it pickles small.

  Attributes:
    path: directory of the store.
    manifest: content of manifest.json.
    table: tracks, transform and statistics; of all contigs of the genome.
    length_bp: length of the chromosome.
    circular: whether the chromosome is circular.
    contig: name of the chromosome, as in the FASTA.
    organism: name of the organism as prepared; of a RegulonDB dump, the contig's.
    fingerprint: hash of inputs, configuration and format.
    masks_operons: whether operons without experimental evidence are unknown.
    masks_unlisted: whether genes in no listed operon are unknown.
  """

  def __init__(
    self, path: PathLike, manifest: Mapping[str, Any], others: Sequence["TrackStore"] = ()
  ):
    """Opens the arrays of a store; use `open_store`. `others`: of the genome's other contigs."""
    self.path, self._others = Path(path), tuple(others)
    self.manifest = dict(manifest)
    self.table = TrackTable.from_json(manifest["tracks"])
    self.contig = str(manifest["contig"]["name"])
    self.organism = str(manifest.get("organism", self.contig))
    self.length_bp = int(manifest["contig"]["length_bp"])
    self.circular = bool(manifest["contig"]["circular"])
    self.fingerprint = str(manifest["fingerprint"])
    config = {**DATA_BEFORE, **manifest.get("config", {})}
    self.masks_operons: bool = config["operon_evidence"] != ALL_OPERONS
    self.masks_unlisted: bool = config["unlisted_genes"] == UNKNOWN
    self._regions = {
      name: tuple(Region(start, end) for start, end in regions)
      for name, regions in manifest["splits"].items()
    }
    self._reverse_order = list(self.table.reverse_order)  # + and - tracks swap

  def __reduce__(self) -> tuple[Any, ...]:
    return TrackStore, (self.path, self.manifest, self._others)

  def __repr__(self) -> str:
    return f"TrackStore({str(self.path)!r}, {self.contig}, {self.length_bp} bp)"

  @property
  def replicons(self) -> tuple["TrackStore", ...]:
    """Returns the stores of all contigs of the genome: this one, then those within it."""
    return (self, *self._others)

  @functools.cached_property
  def sequence(self) -> UInt8[np.ndarray, "L"]:
    """Reads the bases as 0 to 4."""
    return self._load("sequence")

  @functools.cached_property
  def gene_expression(self) -> Shaped[np.ndarray, "L T"]:
    """Reads the z-scores, NaN where unknown."""
    return self._load("gene_expression")

  @functools.cached_property
  def operon_membership(self) -> UInt8[np.ndarray, "L"]:
    """Reads the operon mask, 1 within an operon, `UNKNOWN_OPERON` where that is not known."""
    return self._load("operon_membership")

  @property
  def operon_known(self) -> Bool[np.ndarray, "L"]:
    """Returns where `operon_membership` is known."""
    return self.operon_membership != UNKNOWN_OPERON

  @functools.cached_property
  def genes(self) -> GeneTable:
    """Reads the genes of the store."""
    path = self.path / GENES
    try:
      return read_genes(path, self.table.names)
    except (OSError, KeyError, ValueError, TypeError) as error:
      raise DataError(f"{path}: broken gene table ({reason_of(error)}); {_REBUILD}") from error

  @functools.cached_property
  def all_genes(self) -> GeneTable:
    """Reads the genes of all contigs of the genome, its own first."""
    return GeneTable.joined([store.genes for store in self.replicons])

  def annotation(self) -> Annotation:
    """Returns the genes as an annotation of the chromosome."""
    return self.genes.annotation(self.path / GENES, self.contig, self.circular)

  def log_tpm(self, row: int, track: str) -> float:
    """Returns the observed ln(1 + TPM) of one of `all_genes`; NaN where it was not measured."""
    names = self.table.names
    return float(self.all_genes.log_tpm[row, names.index(track)]) if track in names else np.nan

  @functools.cached_property
  def quality(self) -> dict[str, Any]:
    """Reads the quality report, as `QualityReport.to_json` writes it."""
    return read_json(self.path / QUALITY)

  @functools.cached_property
  def _density(self) -> DensityIndex:
    """Indexes the genes for the density of any window."""
    return DensityIndex.of_genes(self.genes.fragments, self.length_bp, self.circular)

  def _load(self, name: str) -> np.ndarray:
    # A plain array on the map: slices of np.memmap cost several microseconds each.
    return np.asarray(np.load(self.path / f"{name}.npy", mmap_mode="r"))

  def regions(self, split: str) -> tuple[Region, ...]:
    """Returns the regions of a split.

    Raises:
      ConfigError: there is no such split.
    """
    if split not in self._regions:
      raise ConfigError(f"no split {split!r}; expected one of {', '.join(self._regions)}")
    return self._regions[split]

  def window(self, start: int, window_bp: int, reverse: bool = False) -> Window:
    """Cuts the arrays of one window (docs/data.md, without batch axis).

    Args:
      start: first base on the forward strand; any integer on a circular chromosome.
      window_bp: length of the window, a multiple of 128, at most the chromosome's length.
      reverse: whether to read the other strand: positions reversed, bases complemented, + and -
        tracks swapped.

    Returns:
      sequence uint8 (S,); float32 targets gene_expression (S, T), 0 where unknown, gene_density
      (N, 1), operon_membership (S, 1), gene_structure (S, 8), operon_junction (S, 2); a bool
      `<target>_known` beside each; float32 `<target>_weight` beside those of `WEIGHTED`; start
      int32, reverse bool, organism int32, without axes.

    Raises:
      ConfigError: the window has no whole number of bins, or does not fit into the chromosome.
    """
    arrays = self.empty_windows((), window_bp)
    self.fill(arrays, (), start, reverse)
    return arrays

  def empty_windows(self, shape: tuple[int, ...], window_bp: int) -> Window:
    """Allocates arrays for windows, uninitialised, with `shape` in front.

    Raises:
      ConfigError: as `window`.
    """
    self.check_window(window_bp)
    arrays: Window = {"sequence": np.empty((*shape, window_bp), np.uint8)}
    for name, head in HEADS.items():
      size = (*shape, *self.table.shape(head, window_bp))
      arrays[name] = np.empty(size, np.float32)
      arrays[f"{name}_known"] = np.empty(size, bool)
    for name in WEIGHTED:
      arrays[f"{name}_weight"] = np.empty_like(arrays[name])
    return arrays | {
      "start": np.empty(shape, np.int32),
      "reverse": np.empty(shape, bool),
      "organism": np.zeros(shape, np.int32),
    }

  def check_window(self, window_bp: int) -> None:
    """Checks that a window of this length can be cut.

    Raises:
      ConfigError: its length is not a multiple of 128, or beyond the chromosome's length.
    """
    if window_bp < BIN_BP or window_bp % BIN_BP:
      lower = max(window_bp // BIN_BP, 1) * BIN_BP
      raise ConfigError(
        f"window_bp={window_bp} is not a multiple of {BIN_BP}; nearest: {lower} or {lower + BIN_BP}"
      )
    if window_bp > self.length_bp:
      raise ConfigError(f"window_bp={window_bp} is longer than {self.contig} ({self.length_bp} bp)")

  def fill(
    self, arrays: Window, at: int | tuple[()], start: int, reverse: bool, first_new_bp: int = 0
  ) -> None:
    """Writes a window into row `at` of arrays from `empty_windows`, without copies in between.

    Bases of the window before `first_new_bp`, and bins that hold one, are marked unknown.
    """
    out = {key: array[at] if at != () else array for key, array in arrays.items()}
    window_bp = out["sequence"].shape[0]
    start = self._first_base(start, window_bp)
    arrays["start"][at], arrays["reverse"][at] = start, reverse
    # Views along the forward strand: what is written into them in its order lies reversed in `out`.
    forward = {key: array[:: -1 if reverse else 1] for key, array in out.items() if array.ndim}
    first = min(window_bp, self.length_bp - start)
    self._copy(forward, slice(0, first), start, reverse)
    if first < window_bp:
      self._copy(forward, slice(first, window_bp), 0, reverse)
    if reverse:
      codes = out["sequence"]
      np.minimum(np.subtract(3, codes, out=codes), 4, out=codes)  # 3 - 4 wraps to 255: still 4
    value, known = out["gene_expression"], out["gene_expression_known"]
    np.equal(value, value, out=known)  # NaN alone differs from itself
    np.copyto(value, np.float32(0), where=~known)
    forward["gene_density"][:, 0] = self._density.counts(start, window_bp // BIN_BP)
    out["gene_density_known"][...] = True
    label, known = out["operon_membership"], out["operon_membership_known"]
    np.logical_and(self.table.has_operons, label != UNKNOWN_OPERON, out=known)
    label *= known
    swaps = self._reverse_order if reverse else None
    self._gene_targets.fill(forward, start, self.length_bp, swaps)
    for name, head in HEADS.items():
      forward[f"{name}_known"][: -(-first_new_bp // head.resolution_bp)] = False

  def target_weight(self, head: str, start: int, n: int) -> Shaped[np.ndarray, "S T"]:
    """Returns `GeneTargets.weight`."""
    return self._gene_targets.weight(head, start, n, self.length_bp)

  @functools.cached_property
  def _gene_targets(self) -> GeneTargets:
    """Computes the targets that follow from the genes."""
    known = self.table.has_operons, self.masks_operons, self.masks_unlisted
    return gene_targets(self.genes, self.length_bp, self.circular, *known)

  def _first_base(self, start: int, window_bp: int) -> int:
    """Returns the window's first base, between 0 and L."""
    if self.circular:
      return int(start) % self.length_bp
    if not 0 <= start <= self.length_bp - window_bp:
      raise ConfigError(
        f"window {start}..{start + window_bp} leaves {self.contig} ({self.length_bp} bp, linear)"
      )
    return int(start)

  def _copy(self, forward: Window, where: slice, start: int, reverse: bool) -> None:
    """Copies the stored values of bases `start` on, up to the origin, to positions `where`."""
    source = slice(start, start + where.stop - where.start)
    np.copyto(forward["sequence"][where], self.sequence[source])
    np.copyto(forward["operon_membership"][where, 0], self.operon_membership[source])
    value, stored = forward["gene_expression"][where], self.gene_expression[source]
    if reverse and self._reverse_order != sorted(self._reverse_order):
      for i, j in enumerate(self._reverse_order):
        value[:, i] = stored[:, j]
    else:
      np.copyto(value, stored)

  def verify(self) -> None:
    """Reads every file and compares it with the hash in the manifest.

    Raises:
      DataError: a file differs.
    """
    for name, entry in self.manifest["files"].items():
      if hash_file(self.path / name) != entry["sha256"]:
        raise DataError(f"{self.path / name}: not what was written; {_REBUILD}")
    for store in self._others:
      store.verify()


def replicon_folder(index: int) -> str:
  """Returns the folder of the store of one of a genome's further contigs, from 0."""
  return f"replicon_{index + 2}"


def open_store(path: PathLike) -> TrackStore:
  """Opens the track store in a directory.

  Raises:
    DataError: there is none, it is broken or of another version; says what to do.
  """
  path = Path(path)
  manifest_path = path / MANIFEST
  if not manifest_path.is_file() or path.name.endswith(PARTIAL_SUFFIX):
    inside = sorted(p.parent.name for p in path.glob(f"[!.]*/{MANIFEST}"))
    hint = f"; did you mean {path / inside[0]}?" if inside else f"; make one with {_MAKE}"
    raise DataError(f"{path}: not a track store (no {MANIFEST}){hint}")
  try:
    manifest = json.loads(manifest_path.read_text())
    found = manifest["format"], manifest["format_version"]
  except (ValueError, KeyError, TypeError) as error:
    raise DataError(f"{manifest_path}: broken manifest ({reason_of(error)}); {_REBUILD}") from error
  if found not in [(FORMAT, version) for version in VERSIONS]:
    raise DataError(
      f"{path}: {brief(found[0])} version {brief(found[1])}; expected {FORMAT} version "
      f"{FORMAT_VERSION}; {_REBUILD}"
    )
  try:
    _check_files(path, manifest)
    others = range(len(manifest.get("replicons", ())))
    return TrackStore(path, manifest, [open_store(path / replicon_folder(i)) for i in others])
  except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
    raise DataError(f"{manifest_path}: broken manifest ({brief(error)}); {_REBUILD}") from error


def _check_files(path: Path, manifest: Mapping[str, Any]) -> None:
  """Checks that all files are present, with the sizes and shapes of the manifest.

  Raises:
    DataError: a file is missing, or differs.
  """
  for name in FILES:
    expected = manifest["files"][name]["bytes"]
    if not (path / name).is_file():
      raise DataError(f"{path / name}: missing; {_REBUILD}")
    if (size := (path / name).stat().st_size) != expected:
      raise DataError(f"{path / name}: {size} bytes, expected {brief(expected)}; {_REBUILD}")
  for name in ARRAYS:
    entry, where = manifest["arrays"][name], f"{path / name}.npy"
    try:
      array = np.load(where, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, tokenize.TokenError) as error:  # the last of a header
      raise DataError(f"{where}: broken array ({reason_of(error)}); {_REBUILD}") from error
    length_bp, good = manifest["contig"]["length_bp"], [*array.shape] == entry["shape"]
    if not good or len(array) != length_bp or array.dtype != np.dtype(entry["dtype"]):
      expected = f"{entry['dtype']} {tuple(entry['shape'])}"[:99] + f" of {brief(length_bp)} bp"
      found = f"{array.dtype} {array.shape}"
      raise DataError(f"{where}: {found}, expected {expected}; {_REBUILD}")
