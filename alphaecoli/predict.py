"""Predicts tracks for every contig of a FASTA file: `python -m alphaecoli.predict --help`."""

import argparse
import contextlib
import difflib
import hashlib
import importlib.metadata
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alphaecoli import __version__, cli, genome
from alphaecoli.annotation.gff3 import read_gff3
from alphaecoli.annotation.records import Annotation, PlacedGene, place_genes
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.inference.forward import HEADS
from alphaecoli.inference.prediction import UNITS
from alphaecoli.inference.predictor import Predictor, Request, load_predictor
from alphaecoli.inference.progress import BaseProgress
from alphaecoli.inference.writers import (
  GENE_TABLE,
  MANIFEST,
  BigWigTracks,
  describe_files,
  gene_rows,
  gene_table_header,
  write_manifest,
  write_table,
)

LOGGER = logging.getLogger("alphaecoli.predict")  # __name__ is __main__ on the command line

MANY_UNKNOWN = 0.5  # share of a contig; proteins read as nucleotides have 0.8

DESCRIPTION = """Predicts gene expression, gene density and operon membership along every contig
of a FASTA file, and writes BigWig tracks, a manifest and, with --annotation, a table of genes."""


def main(arguments: Sequence[str]) -> int:
  """Reads flags, predicts, writes."""
  options = _options(arguments)
  contigs = read_contigs(options.fasta)
  annotation = read_gff3(options.annotation) if options.annotation else None
  topology = choose_topology(contigs, options.circular, annotation)
  genes: dict[str, list[PlacedGene]] = {}
  if annotation is not None:
    genes = place_genes(annotation, {c.name: len(c.codes) for c in contigs}, topology)
  make_folder(options.out)
  predictor = load_predictor(
    options.checkpoint,
    device=options.device,
    batch_windows=options.batch_windows,
    margin_bp=options.margin_bp,
  )
  files = predict_to_folder(
    predictor,
    contigs,
    topology,
    options.out,
    genes=genes if annotation is not None else None,
    units=options.units,
    reverse_complement=options.reverse_complement_average,
  )
  write_manifest(options.out, _manifest(options, predictor, contigs, topology, files))
  LOGGER.info("wrote %d tracks to %s", len(files), options.out)
  return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  """The command line."""
  parser = cli.parser("predict", DESCRIPTION)
  add = parser.add_argument
  add("--checkpoint", required=True, help="a checkpoint, or the directory of a run")
  add("--fasta", required=True, type=Path, help="sequences, plain or gzip")
  add("--out", required=True, type=Path, help="directory to write to; made if needed")
  add(
    "--circular",
    metavar="all|none|NAME,NAME",
    help="contigs whose end joins their start; without it, those that the annotation declares "
    "(Is_circular=true), and all others are linear",
  )
  add("--units", choices=list(UNITS), default="log_tpm", help="of expression; log_tpm: ln(1 + TPM)")
  add("--annotation", type=Path, help="GFF3, plain or gzip: also write genes.tsv")
  add(
    "--reverse-complement-average",
    action="store_true",
    help="average the predictions of both strands: twice the work",
  )
  add("--batch-windows", type=int, help="windows at once, over all devices; default: fill them")
  add("--margin-bp", type=int, help="bases dropped at a window's ends; default: a quarter of it")
  add("--device", help="platform such as cpu or gpu; default: what JAX finds")
  return parser.parse_args(list(arguments))


def read_contigs(path: Path) -> list[genome.Contig]:
  """Reads a FASTA and sorts it by name, as BigWig wants it.

  Raises:
    DataError: missing, broken or empty, or two contigs share a name.
  """
  contigs = genome.read_fasta(path)
  for contig in contigs:
    unknown = float(np.mean(contig.codes == genome.UNKNOWN))
    if unknown > MANY_UNKNOWN:
      LOGGER.warning(
        "%s: %.0f%% of %s is not A C G T; is it a nucleotide sequence?",
        path,
        100 * unknown,
        contig.name,
      )
  return sorted(contigs, key=lambda contig: contig.name.encode())


def choose_topology(
  contigs: Sequence[genome.Contig], circular: str | None, annotation: Annotation | None = None
) -> dict[str, bool]:
  """Which contigs are rings: the flag decides, else the annotation, else they are linear.

  Raises:
    ConfigError: the flag names a contig that is not in the FASTA.
  """
  names = [contig.name for contig in contigs]
  declared = annotation.circular if annotation is not None else frozenset()
  if circular is None:
    rings, reason = {n for n in names if n in declared}, "annotation"
  elif circular in ("all", "none"):
    rings, reason = (set(names) if circular == "all" else set()), "--circular"
  else:
    rings, reason = {name for name in circular.split(",") if name}, "--circular"
    for name in sorted(rings - set(names)):
      near = difflib.get_close_matches(name, names, n=1, cutoff=0)
      raise ConfigError(f"--circular={name}: no such contig in the FASTA; nearest: {near[0]}")
  _log_topology(contigs, rings, reason, circular is None)
  return {name: name in rings for name in names}


def _log_topology(
  contigs: Sequence[genome.Contig], rings: set[str], reason: str, assumed: bool
) -> None:
  """Says which contigs are rings, and warns where linear is only an assumption."""
  if rings:
    LOGGER.info("circular (%s): %s", reason, _some(sorted(rings)))
  linear = [contig for contig in contigs if contig.name not in rings]
  if not linear:
    return
  if not assumed:
    LOGGER.info("linear (%s): %s", reason, _some([c.name for c in linear]))
    return
  complete = [c.name for c in linear if _sounds_circular(c.description)]
  hint = f"; {_some(complete)} may be circular by the FASTA header" if complete else ""
  LOGGER.warning(
    "taken as linear, since nothing says otherwise: %s%s. For rings pass --circular all or names",
    _some([c.name for c in linear]),
    hint,
  )


def _sounds_circular(description: str) -> bool:
  """Whether a FASTA header hints at a ring, as NCBI, Flye and Unicycler write it."""
  text = description.lower()
  return any(hint in text for hint in ("complete genome", "complete sequence", "circular"))


def _some(names: Sequence[str], most: int = 5) -> str:
  """The first names, and how many more there are."""
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return ", ".join(names[:most]) + more


def make_folder(folder: Path) -> None:
  """Makes the output directory and removes an older manifest, so that it never looks complete.

  Raises:
    DataError: it can not be written to.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
  except OSError as error:
    raise DataError(f"{folder}: can not be written to: {error.strerror}") from error


def predict_to_folder(
  predictor: Predictor,
  contigs: Sequence[genome.Contig],
  topology: dict[str, bool],
  folder: Path,
  *,
  genes: dict[str, list[PlacedGene]] | None = None,
  units: str = "log_tpm",
  reverse_complement: bool = False,
) -> list[dict[str, Any]]:
  """Predicts contigs (sorted by name) and writes tracks and genes.

  Returns:
    What was written, one object a track.

  Raises:
    DataError: a file can not be written, or the model gives values that are not finite.
  """
  tracks = predictor.table.names
  lengths = [(contig.name, len(contig.codes)) for contig in contigs]
  untrained = [head for head in HEADS if head not in predictor.trained_heads]
  if untrained:
    LOGGER.warning("not trained in this checkpoint, so not written: %s", ", ".join(untrained))
  rows = [gene_table_header(tracks)]
  requests = (Request(contig.codes, topology[contig.name]) for contig in contigs)
  writer = BigWigTracks(folder, lengths, tracks, predictor.trained_heads)
  with contextlib.ExitStack() as stack:
    stack.enter_context(writer)
    progress = stack.enter_context(BaseProgress(sum(n for _, n in lengths), "predict"))
    results = predictor.predict_many(
      requests, reverse_complement=reverse_complement, units=units, progress=progress
    )
    for contig, prediction in zip(contigs, results, strict=True):
      writer.write(contig.name, prediction)
      if genes is not None:
        rows += gene_rows(genes[contig.name], prediction)
  if genes is not None:
    write_table(folder / GENE_TABLE, rows)
  return describe_files(writer.files, tracks, units)


def _manifest(
  options: argparse.Namespace,
  predictor: Predictor,
  contigs: Sequence[genome.Contig],
  topology: dict[str, bool],
  files: list[dict[str, Any]],
) -> dict[str, Any]:
  """What predictions.json says."""
  packages = ("jax", "flax", "numpy", "pyBigWig")
  return {
    "format": 1,
    "model": predictor.about,
    "track_table": predictor.table.to_json(),
    "units": {"gene_expression": UNITS[options.units]},
    "reverse_complement_average": options.reverse_complement_average,
    "window_bp": predictor.window_bp,
    "margin_bp": predictor.margin_bp,
    "fasta": {"path": str(options.fasta), "sha256": _sha256(options.fasta)},
    "annotation": str(options.annotation) if options.annotation else None,
    "contigs": [
      {"name": c.name, "length_bp": len(c.codes), "circular": topology[c.name]} for c in contigs
    ],
    "tracks": files,
    "versions": {"alphaecoli": __version__}
    | {name: importlib.metadata.version(name) for name in packages},
  }


def _sha256(path: Path) -> str:
  """The hash of a file's bytes."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
  cli.run(main)
