"""The folder of one genome: written aside, moved into place when complete, and read back."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from alphaecoli.errors import DataError, brief
from alphaecoli.files import write_json
from alphaecoli.genomics.gene_calls import GeneCaller, are_plausible
from alphaecoli.inference import tables, writers
from alphaecoli.inference.genome_files import stem
from alphaecoli.inference.genomes import Genome, NamedContig
from alphaecoli.inference.operon_calls import (
  GenePair,
  PredictedGenes,
  PredictedOperon,
  operons_of_bases,
  operons_of_genes,
)
from alphaecoli.inference.prediction import (
  BROWSER,
  GENBANK,
  PARQUET,
  TRACK_HEADS,
  UNITS,
  Prediction,
)
from alphaecoli.inference.predictor import Predictor
from alphaecoli.inference.tiling import n_bins
from alphaecoli.outputs.browsers import gene_features, write_bed, write_browser_files
from alphaecoli.outputs.genbank import AnnotatedContig, write_genbank
from alphaecoli.outputs.known_genes import KnownGeneColumns
from alphaecoli.schema import BIN_BP, HEADS
from alphaecoli.tracks.store import TrackStore
from alphaecoli.tracks.track_table import TrackTable

MANIFEST = "predictions.json"
FAILED = "failed.json"
PARTIAL = ".partial"  # files of a genome that is not complete
FORMAT = 2  # of the manifest; raise it when files, or values in them, come to mean something else
TRACK_FORMATS: dict[str, Callable[..., writers.TrackWriter]] = {
  "bigwig": writers.BigWigTracks,
  "bedgraph": writers.BedGraphTracks,
  "bedgraph.gz": writers.PackedBedGraphTracks,
  "npz": writers.NpzArrays,
  "zarr": writers.ZarrArrays,
}


@dataclasses.dataclass(frozen=True)
class Settings:
  """Formats, units and thresholds of what is written.

  Attributes:
    formats: out of `FORMATS` of `inference/prediction.py`.
    units: of expression in the tracks.
    operon_threshold: probability from which genes or bases count as of an operon.
    store: observed expression, operons and splits of genes.
    call_genes: call genes from sequence where there is no annotation, if the model has learnt to.
  """

  formats: tuple[str, ...] = ("bigwig",)
  units: str = "log_tpm"
  operon_threshold: float = 0.5
  store: TrackStore | None = None
  call_genes: bool = True

  def calls_genes(self, heads: Sequence[str]) -> bool:
    """Returns whether a model with these trained heads calls genes where none are given."""
    return self.call_genes and "gene_structure" in heads


class GenomeOutput:
  """Writes the outputs of one genome; a context manager.

  Files gather in a folder within the final one. At the end they move into place, the manifest
  last; after an error what was there before is as it was.
  """

  def __init__(
    self,
    folder: Path,
    genome: Genome,
    predictor: Predictor,
    settings: Settings,
    metadata: Mapping[str, Any],
  ):
    """Prepares the output; nothing is written before `__enter__`.

    Args:
      folder: folder of the complete outputs.
      genome: genome whose contigs are written, in their order.
      predictor: predictor whose tracks and trained heads are written.
      settings: formats, units and thresholds of the outputs.
      metadata: entries of the manifest beside contigs and files.
    """
    self._folder, self._genome, self._settings = folder, genome, settings
    self._metadata = dict(metadata)
    self._heads, self._tracks = predictor.trained_heads, predictor.table.names
    whole = all(predictor.is_out_of_fold(c.codes) for c in genome.contigs)
    self._has_spread = predictor.has_spread and not whole  # of contigs that are not out of fold
    members = predictor.members or (predictor,)
    self._models = [p.gene_models for p in members]
    self._known = KnownGeneColumns([p.about for p in members])
    self._caller = GeneCaller(predictor.gene_models.calls)
    self._members = predictor.member_names
    self._partial = folder / PARTIAL
    self._genes: list[tables.Row] = []
    self._pairs: list[tables.Row] = []
    self._annotated: list[AnnotatedContig] = []
    self._operons = tables.OperonFiles(genome.contigs)
    calls = settings.calls_genes(self._heads) and not genome.annotated
    self._called = tables.CalledGeneFile(genome.contigs) if calls else None

  def __enter__(self) -> "GenomeOutput":
    contigs = [(contig.label, len(contig.codes)) for contig in self._genome.contigs]
    heads = [head for head in TRACK_HEADS if head in self._heads]
    heads = writers.with_spread(heads) if self._has_spread else heads
    try:
      shutil.rmtree(self._partial, ignore_errors=True)  # of a run that was killed
      self._partial.mkdir(parents=True)
    except OSError as error:
      raise DataError(f"{self._folder}: can not be written to: {error.strerror}") from error
    self._writers = [
      TRACK_FORMATS[name](self._partial, contigs, self._tracks, heads)
      for name in self._settings.formats
      if name in TRACK_FORMATS
    ]
    return self

  def write(self, contig: NamedContig, prediction: Prediction) -> None:
    """Adds the whole of one contig.

    Raises:
      DataError: a value is not finite, or the disk is full.
    """
    writers.check_finite(contig.label, prediction, self._heads)
    tracks = prediction.in_units(self._settings.units)
    try:
      with writers.writing(self._writers, contig.label, tracks):
        self._add_features(contig, prediction)
    except OSError as error:
      raise DataError(f"{self._folder}: can not be written: {error.strerror}") from error

  def _add_features(self, contig: NamedContig, prediction: Prediction) -> None:
    """Adds the operons, pairs and genes of one contig; calls its genes where that is asked."""
    threshold, store = self._settings.operon_threshold, self._settings.store
    has_genes = self._genome.annotated
    if self._called is not None:
      calls = self._caller.call(contig.codes, prediction.gene_structure, contig.circular)
      contig, has_genes = self._called.add(contig, calls), are_plausible(calls, len(contig.codes))
    names: dict[int, str] = {}
    genes = PredictedGenes(contig.genes, contig.codes, contig.circular)
    operons, pairs = list[PredictedOperon](), list[GenePair]()
    if "operon_membership" in self._heads:
      membership = prediction.operon_membership[:, 0]
      if has_genes:
        pairs, members = genes.pairs(prediction, self._models)
        operons = operons_of_genes(contig.genes, pairs, membership, threshold)
        spread = members if self._has_spread else None
        self._pairs += tables.pair_rows(contig, pairs, threshold, store, spread)
      else:
        operons = operons_of_bases(membership, contig.circular, threshold)
      names = self._operons.add(contig, operons)
    has_expression = "gene_expression" in self._heads
    annotated = genes.log_tpm(prediction, self._models) if has_expression else None
    columns = names, store, self._members, annotated, self._has_spread
    rows = tables.gene_rows(contig, prediction, *columns)
    self._known.add(contig.label, contig.codes, genes.codons, rows)
    self._genes += rows
    if GENBANK in self._settings.formats:
      self._annotated.append(tables.annotated(contig, rows, operons, names, pairs))

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    for writer in self._writers:
      writer.close()
    if kind is None:
      self._publish()
    else:
      shutil.rmtree(self._partial, ignore_errors=True)

  def _publish(self) -> None:
    """Describes the files and moves them into place."""
    self._known.finish(self._genome.file.path.name, self._genes)
    found = [row for w in self._writers for row in w.describe(self._settings.units)]
    tracks = [row for row in found if "track" in row]
    other = [row for row in found if "track" not in row]
    if "operon_membership" in self._heads:
      other += self._operons.write(self._partial)
    if self._called is not None:
      other += self._called.write(self._partial)
    for name, rows in ((tables.GENES, self._genes), (tables.PAIRS, self._pairs)):
      if rows:
        tables.write_tsv(self._partial / f"{name}.tsv", rows)
        other.append({"file": f"{name}.tsv", "format": "tsv"})
      if rows and PARQUET in self._settings.formats:
        tables.write_parquet(self._partial / f"{name}.parquet", rows)
        other.append({"file": f"{name}.parquet", "format": PARQUET})
    other += self._write_to_open(tracks)
    manifest = self._metadata | {
      "units": {"gene_expression": UNITS[self._settings.units]},
      "contigs": [
        {"name": c.name, "label": c.label, "length_bp": len(c.codes), "circular": c.circular}
        | self._known.contigs.get(c.label, {})
        for c in self._genome.contigs
      ],
      "tracks": tracks,
      "files": other,
      "bytes": {row["file"]: writers.size_of(self._partial / row["file"]) for row in found + other},
    }
    move_into_place(self._partial, self._folder, manifest)

  def _write_to_open(self, tracks: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Writes the genes in colour, GenBank and what browsers open; returns rows of the manifest."""
    formats, files, features = self._settings.formats, [], {}
    contigs = [(contig.label, contig.codes) for contig in self._genome.contigs]
    if self._genes:
      features["genes"] = gene_features(self._genes, {name: len(c) for name, c in contigs})
      write_bed(self._partial / "genes.bed", features["genes"])
      files.append({"file": "genes.bed", "format": "bed"})
    if GENBANK in formats:
      write_genbank(self._partial / "genome.gbk", self._annotated)
      files.append({"file": "genome.gbk", "format": GENBANK})
    if BROWSER in formats:
      if "operon_membership" in self._heads:
        features["operons"] = self._operons.features
      bigwigs = next(w for w in self._writers if isinstance(w, writers.BigWigTracks))
      shown = [track for track in tracks if track["file"].endswith(bigwigs.suffix)]
      title = stem(self._genome.file.path)
      files += write_browser_files(self._partial, title, contigs, shown, bigwigs.largest, features)
    return files


def move_into_place(partial: Path, folder: Path, manifest: Mapping[str, Any]) -> None:
  """Moves complete files to their folder, in place of those of an older run; the manifest last.

  Raises:
    DataError: the folder can not be written to.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    older = read_json(folder / MANIFEST)
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / FAILED).unlink(missing_ok=True)
    for name in older.get("bytes", {}):
      writers.remove(folder / name)
    for path in partial.iterdir():
      writers.remove(folder / path.name)  # left by a run that ended here
      os.replace(path, folder / path.name)
    partial.rmdir()
  except OSError as error:
    raise DataError(f"{folder}: can not be written to: {error.strerror}") from error
  write_json(folder / MANIFEST, dict(manifest))


def read_json(path: Path) -> dict[str, Any]:
  """Reads a JSON file; an empty object where it is missing or broken."""
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return {}
  return content if isinstance(content, dict) else {}


def is_done(folder: Path, key: str) -> bool:
  """Tells whether a folder holds all that a genome with this key gives."""
  manifest = read_json(folder / MANIFEST)
  if manifest.get("key") != key:
    return False
  sizes = {folder / name: size for name, size in manifest["bytes"].items()}
  return all(path.exists() and writers.size_of(path) == size for path, size in sizes.items())


def read_manifest(folder: Path) -> dict[str, Any]:
  """Reads the manifest of a directory of predictions.

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
  found = manifest.get("format") if isinstance(manifest, dict) else None
  if found != FORMAT:
    raise DataError(
      f"{path}: format {brief(found)}; this version of alphaecoli reads {FORMAT}: predict again"
    )
  return manifest


def read_prediction(folder: Path, contig: str, start: int, end: int) -> Prediction:
  """Reads an interval of one contig, widened to whole bins.

  Args:
    folder: folder that alphaecoli.predict has completed.
    contig: name in the FASTA, or alias.
    start: first base.
    end: base after the last one; not past the contig's end.

  Raises:
    DataError: the directory is incomplete, or has no such contig or interval, or no BigWig.
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
    name: np.full(table.shape(HEADS[name], end - start), np.nan, np.float32) for name in TRACK_HEADS
  }
  tracks = [t for t in manifest["tracks"] if t["file"].endswith(".bw") and t["head"] in arrays]
  if not tracks:
    raise DataError(f"{folder}: no BigWig tracks; predict with --formats bigwig")
  for track in tracks:
    head = track["head"]
    column = table.names.index(track["track"]) if head == "gene_expression" else 0
    values = writers.read_bigwig(folder / track["file"], contigs[contig]["label"], start, end)
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
