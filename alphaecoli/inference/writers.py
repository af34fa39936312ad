"""Predictions on disk: BigWig tracks, a table of genes, and a manifest that describes them."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig
from jaxtyping import Float32

from alphaecoli.annotation.records import PlacedGene
from alphaecoli.errors import DataError
from alphaecoli.inference.forward import HEADS
from alphaecoli.inference.prediction import TRACK_UNITS, UNITS, Prediction
from alphaecoli.schema import BIN_BP

CHUNK_VALUES = 1 << 20
MANIFEST = "predictions.json"
GENE_TABLE = "genes.tsv"


def temporary_path(path: Path) -> Path:
  """Where a file is written until it is complete."""
  return path.with_name(f".{path.name}.tmp-{os.getpid()}")


class BigWigFile:
  """One BigWig, under a temporary name until `finish`.

  Contigs must be written in the order of the header, each with all its values.
  """

  def __init__(self, path: Path, contigs: Sequence[tuple[str, int]], span_bp: int = 1):
    """Opens the file.

    Args:
      path: its name once complete.
      contigs: names and lengths, sorted by name (in bytes) as genome browsers expect.
      span_bp: bases that one value stands for.

    Raises:
      DataError: the file can not be written.
    """
    self.path, self.span_bp = path, span_bp
    self._temporary = temporary_path(path)
    self._lengths = dict(contigs)
    try:
      self._temporary.touch()  # pyBigWig's own message does not say why
      self._file = pyBigWig.open(str(self._temporary), "w")
      self._file.addHeader(list(contigs))
    except (OSError, RuntimeError) as error:
      raise DataError(f"{path}: can not be written: {error}") from error

  def write(self, contig: str, values: Float32[np.ndarray, " N"]) -> None:
    """Adds all values of one contig; the last one is clipped to the contig's end."""
    span, length = self.span_bp, self._lengths[contig]
    whole = length // span
    try:
      for first in range(0, whole, CHUNK_VALUES):
        chunk = np.ascontiguousarray(values[first : min(first + CHUNK_VALUES, whole)])
        self._file.addEntries(contig, first * span, values=chunk, span=span, step=span)
      if whole * span < length:
        tail = np.array(values[whole : whole + 1], np.float32)
        self._file.addEntries([contig], [whole * span], ends=[length], values=tail)
    except (OSError, RuntimeError) as error:
      raise DataError(f"{self.path}: can not be written: {error}; is the disk full?") from error

  def finish(self) -> None:
    """Completes the file and gives it its name."""
    self._file.close()
    os.replace(self._temporary, self.path)

  def abandon(self) -> None:
    """Removes what was written."""
    self._file.close()
    self._temporary.unlink(missing_ok=True)


class BigWigTracks:
  """All tracks of a genome as BigWig files, one a track; a context manager.

  Nothing is left under a track's name unless all of them are complete.
  """

  def __init__(
    self,
    folder: Path,
    contigs: Sequence[tuple[str, int]],
    tracks: Sequence[str],
    heads: Sequence[str] = HEADS,
  ):
    """Names the files.

    Args:
      folder: where they go.
      contigs: names and lengths; write them in the order of `self.order`.
      tracks: names of the expression tracks.
      heads: heads to write.
    """
    self.order = sorted(contigs, key=lambda contig: contig[0].encode())
    self.files = track_files(tracks, heads)
    self._folder = folder
    self._open: dict[tuple[str, int], BigWigFile] = {}

  def __enter__(self) -> "BigWigTracks":
    try:
      for (head, column), name in self.files.items():
        span = BIN_BP if head == "gene_density" else 1
        self._open[head, column] = BigWigFile(self._folder / name, self.order, span)
    except DataError:
      self._abandon()
      raise
    return self

  def write(self, contig: str, prediction: Prediction) -> None:
    """Adds one contig.

    Raises:
      DataError: a value is not finite, or the disk is full.
    """
    for (head, column), file in self._open.items():
      values = getattr(prediction, head)[:, column]
      bad = np.flatnonzero(~np.isfinite(values))
      if bad.size:
        raise DataError(
          f"the model gives {values[bad[0]]} for {head} at base {bad[0] * file.span_bp} of "
          f"{contig}; its parameters or running statistics are not finite"
        )
      file.write(contig, values)

  def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
    if kind is not None:
      self._abandon()
      return
    for file in self._open.values():
      file.finish()

  def _abandon(self) -> None:
    for file in self._open.values():
      file.abandon()


def track_files(tracks: Sequence[str], heads: Sequence[str] = HEADS) -> dict[tuple[str, int], str]:
  """The file of each (head, column).

  Characters of a track's name other than A-Z a-z 0-9 . + - _ are replaced; where two files would
  then have the same name, one gets a number.
  """
  files: dict[tuple[str, int], str] = {}
  taken: set[str] = set()
  for head in heads:
    for column, track in enumerate(tracks if head == "gene_expression" else [""]):
      stem = head + ("." + re.sub(r"[^A-Za-z0-9.+_-]", "_", track) if track else "")
      name = stem
      while name.lower() in taken:
        name = f"{stem}_{column}"
        stem += "_"
      taken.add(name.lower())
      files[head, column] = name + ".bw"
  return files


def write_table(path: Path, rows: Iterable[Sequence[str]]) -> None:
  """Writes tab-separated values."""
  write_text(path, "".join("\t".join(row) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
  """Writes a small file so that it is either whole or absent.

  Raises:
    DataError: it can not be written.
  """
  temporary = temporary_path(path)
  try:
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
  except OSError as error:
    raise DataError(f"{path}: can not be written: {error.strerror}") from error


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
  """Writes predictions.json, which says that the folder is complete."""
  write_text(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def describe_files(
  files: dict[tuple[str, int], str], tracks: Sequence[str], units: str
) -> list[dict[str, Any]]:
  """Each file with its head, track, units and resolution, for the manifest."""
  words = {"gene_expression": UNITS[units], **TRACK_UNITS}
  return [
    {
      "file": name,
      "head": head,
      "track": tracks[column] if head == "gene_expression" else head,
      "units": words[head],
      "resolution_bp": BIN_BP if head == "gene_density" else 1,
    }
    for (head, column), name in files.items()
  ]


def gene_table_header(tracks: Sequence[str]) -> list[str]:
  """Columns of the gene table. Positions are 1-based and inclusive, as in GFF3."""
  values = [f"{unit}:{track}" for track in tracks for unit in ("log_tpm", "tpm")]
  fixed = ["id", "locus_tag", "name", "type", "contig", "start", "end", "strand"]
  return [*fixed, *values, "operon_probability"]


def gene_rows(genes: Iterable[PlacedGene], prediction: Prediction) -> list[list[str]]:
  """The table's rows for the genes of one contig.

  A gene's log_tpm is the mean over its bases of the predicted ln(1 + TPM), which is what the model
  learnt from; its tpm is exp(log_tpm) - 1, at least 0. A head that was not trained gives empty
  fields.
  """
  logs = prediction.in_units("log_tpm").gene_expression
  rows = []
  for placed in genes:
    gene, bases = placed.gene, placed.bases(len(logs))
    fields = [gene.id, gene.locus_tag, gene.name, gene.type, gene.contig]
    fields += [str(gene.start + 1), str(gene.end), {1: "+", -1: "-", 0: "."}[gene.strand]]
    for value in logs[bases].mean(axis=0, dtype=np.float64):
      fields += [_number(value), _number(np.maximum(np.expm1(value), 0.0))]
    fields.append(_number(prediction.operon_membership[bases].mean(dtype=np.float64)))
    rows.append(fields)
  return rows


def _number(value: float) -> str:
  """Six significant digits; empty where there is no value."""
  return "" if np.isnan(value) else f"{value:.6g}"
