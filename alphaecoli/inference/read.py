"""Reading back what `python -m alphaecoli.predict` wrote."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig
from jaxtyping import Float32

from alphaecoli.errors import DataError
from alphaecoli.inference.output import FORMAT, MANIFEST
from alphaecoli.inference.prediction import UNITS, Prediction
from alphaecoli.inference.tiling import n_bins
from alphaecoli.schema import BIN_BP, HEADS
from alphaecoli.tracks.track_table import TrackTable


def read_manifest(folder: Path) -> dict[str, Any]:
  """The manifest of a directory of predictions.

  Raises:
    DataError: it is missing (the run did not finish) or broken.
  """
  path = folder / MANIFEST
  try:
    manifest = json.loads(path.read_text(encoding="utf-8"))
  except OSError as error:
    raise DataError(
      f"{path}: {error.strerror}; expected a directory that alphaecoli.predict has completed"
    ) from error
  except ValueError as error:
    raise DataError(f"{path}: not JSON: {error}") from error
  if manifest.get("format") != FORMAT:
    raise DataError(
      f"{path}: format {manifest.get('format')}; this version of alphaecoli reads {FORMAT}: "
      "predict again"
    )
  return manifest


def read_prediction(folder: Path, contig: str, start: int, end: int) -> Prediction:
  """A stretch of one contig, widened to whole bins.

  Args:
    folder: what alphaecoli.predict wrote.
    contig: its name in the FASTA, or its alias.
    start: first base.
    end: base after the last one; not past the contig's end.

  Raises:
    DataError: the directory is incomplete, or has no such contig or stretch, or no BigWig.
  """
  manifest = read_manifest(folder)
  contigs = {entry[key]: entry for key in ("label", "name") for entry in manifest["contigs"]}
  if contig not in contigs:
    raise DataError(f"{folder}: no contig {contig!r}; it has {', '.join(list(contigs)[:5])}")
  length = contigs[contig]["length_bp"]
  if not 0 <= start < end <= length:
    raise DataError(f"{folder}: {start}-{end} is not within {contig}, which has {length} bp")
  start, end = start // BIN_BP * BIN_BP, min(n_bins(end) * BIN_BP, length)
  table = TrackTable.from_json(manifest["track_table"])
  arrays: dict[str, Any] = {
    head.name: np.full(table.shape(head, end - start), np.nan, np.float32)
    for head in HEADS.values()
  }
  tracks = [track for track in manifest["tracks"] if track["file"].endswith(".bw")]
  if not tracks:
    raise DataError(f"{folder}: no BigWig tracks; predict with --formats bigwig")
  for track in tracks:
    head = track["head"]
    column = table.names.index(track["track"]) if head == "gene_expression" else 0
    values = _read_bigwig(folder / track["file"], contigs[contig]["label"], start, end)
    arrays[head][:, column] = values[:: HEADS[head].resolution_bp]
  words = {text: units for units, text in UNITS.items()}
  return Prediction(
    **arrays,
    table=table,
    units=words[manifest["units"]["gene_expression"]],
    start=start,
    circular=contigs[contig]["circular"],
    contig=contig,
  )


def _read_bigwig(path: Path, contig: str, start: int, end: int) -> Float32[np.ndarray, " S"]:
  """Values of one track, base by base."""
  try:
    with pyBigWig.open(str(path)) as file:
      return np.asarray(file.values(contig, start, end, numpy=True), np.float32)
  except (OSError, RuntimeError) as error:
    raise DataError(f"{path}: can not be read: {error}") from error
