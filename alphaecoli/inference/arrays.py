"""Tracks as arrays: NumPy's npz, or zarr."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alphaecoli.inference.extras import optional
from alphaecoli.inference.forward import HEADS
from alphaecoli.inference.prediction import Prediction
from alphaecoli.inference.writers import safe_names
from alphaecoli.schema import BIN_BP

NPZ, ZARR = "npz", "tracks.zarr"
CHUNK_BP = 1 << 16


def attributes(prediction: Prediction, head: str) -> dict[str, Any]:
  """What one array is."""
  return {
    "units": prediction.track_units[head],
    "resolution_bp": BIN_BP if head == "gene_density" else 1,
    "tracks": list(prediction.tracks) if head == "gene_expression" else [head],
  }


class NpzArrays:
  """A folder `npz`: one file a contig with one array a head, and attributes.json."""

  def __init__(
    self,
    folder: Path,
    contigs: Sequence[tuple[str, int]],
    tracks: Sequence[str],
    heads: Sequence[str] = HEADS,
  ):
    """Makes the folder. Arguments as for `TrackFiles`."""
    self._folder, self._heads = folder / NPZ, heads
    self._folder.mkdir()
    safe = safe_names([name for name, _ in contigs])
    self._names = {contig: name for (contig, _), name in zip(contigs, safe, strict=True)}
    self._about: dict[str, Any] = {"contigs": {}, "arrays": {}}

  def write(self, contig: str, prediction: Prediction) -> None:
    """Adds one contig."""
    name = self._names[contig] + ".npz"
    np.savez(self._folder / name, **{head: getattr(prediction, head) for head in self._heads})
    self._about["contigs"][contig] = {"file": name, "circular": prediction.circular}
    self._about["arrays"] = {head: attributes(prediction, head) for head in self._heads}

  def close(self) -> None:
    """Writes the attributes."""
    text = json.dumps(self._about, indent=2) + "\n"
    (self._folder / "attributes.json").write_text(text, encoding="utf-8")

  def describe(self, units: str) -> list[dict[str, Any]]:
    """The folder, for the manifest."""
    return [{"file": NPZ, "format": "npz", "heads": list(self._heads)}]


class ZarrArrays:
  """A zarr (version 3) store `tracks.zarr`: one group a contig with one array a head."""

  def __init__(
    self,
    folder: Path,
    contigs: Sequence[tuple[str, int]],
    tracks: Sequence[str],
    heads: Sequence[str] = HEADS,
  ):
    """Makes the store. Arguments as for `TrackFiles`."""
    self._heads = heads
    self._root = optional("zarr", "formats").open_group(str(folder / ZARR), mode="w", zarr_format=3)
    safe = safe_names([name for name, _ in contigs])
    self._names = {contig: name for (contig, _), name in zip(contigs, safe, strict=True)}
    self._root.attrs["contigs"] = self._names

  def write(self, contig: str, prediction: Prediction) -> None:
    """Adds one contig."""
    about = {"contig": contig, "circular": prediction.circular}
    group = self._root.create_group(self._names[contig], attributes=about)
    for head in self._heads:
      values = getattr(prediction, head)
      rows = "bin" if head == "gene_density" else "position"
      group.create_array(
        head,
        data=values,
        chunks=(min(CHUNK_BP, len(values)), values.shape[1]),
        attributes=attributes(prediction, head),
        dimension_names=(f"{rows}", f"{head}_track"),
      )

  def close(self) -> None:
    """Nothing is left to do."""

  def describe(self, units: str) -> list[dict[str, Any]]:
    """The store, for the manifest."""
    return [{"file": ZARR, "format": "zarr", "heads": list(self._heads)}]
