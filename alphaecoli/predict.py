"""Predicts tracks, operons and genes for genomes: `python -m alphaecoli.predict --help`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphaecoli import cli
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import DEFAULT_MODEL, optional
from alphaecoli.inference.prediction import (
  BIGWIG,
  BROWSER,
  FORMATS,
  OPERON_THRESHOLD,
  PARQUET,
  TRACK_HEADS,
  UNITS,
)

# What computes is imported where it is used: --help and a wrong flag answer at once.
if TYPE_CHECKING:
  from alphaecoli.inference.batch import GenomeBatch
  from alphaecoli.inference.genome_files import GenomeFile
  from alphaecoli.inference.output import Settings
  from alphaecoli.inference.predictor import Predictor
  from alphaecoli.tracks.store import TrackStore

OPTIONAL = {"zarr": "zarr", PARQUET: "pyarrow"}  # packages of the extra "formats"
DESCRIPTION = """Predicts gene expression, gene density and operon membership along every contig
of one or many genomes. Writes tracks, operons (GFF3, BED), tables of genes and of neighbouring
genes where genes are known, and a manifest. The same command continues where it was stopped."""


def main(arguments: Sequence[str]) -> int:
  """Reads flags, predicts, writes."""
  options = _options(arguments)
  from alphaecoli.inference.batch import SUMMARY, GenomeBatch
  from alphaecoli.inference.genome_files import find_genome_files, find_process, shard
  from alphaecoli.inference.genomes import read_aliases, read_topology
  from alphaecoli.parallel.hardware import use_user_cache

  use_user_cache()
  settings = _settings(options)
  files = find_genome_files(options.fasta, options.list, options.annotation, [SUMMARY])
  index, count = find_process(options.process_index, options.process_count, os.environ)
  mine = shard(files, index, count)
  if count > 1:
    cli.LOGGER.info("process %d of %d: %d of %d genomes", index, count, len(mine), len(files))
  _check_writable(options.out)
  predictor, measured = _predictor(options, files[0])
  batch = GenomeBatch(
    predictor,
    options.out,
    settings,
    topology=read_topology(options.circular),
    aliases=read_aliases(options.alias),
    reverse_complement=options.reverse_complement_average,
    notes=measured,
  )
  batch.predict(mine)
  if files[0].folder:
    batch.write_summary(files)
  _report(batch, options.out)
  return 1 if batch.failures else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  """Parses the command line."""
  parser = cli.parser("predict", DESCRIPTION)
  add = parser.add_argument
  add(
    "--checkpoint",
    default=DEFAULT_MODEL,
    help="a shipped model (of alphaecoli.models; default %(default)s), a checkpoint, or the "
    "directory of a run; or an ensemble: the directory of alphaecoli.crossvalidate, or a file like "
    "its ensemble.json",
  )
  add(
    "--members",
    metavar="N|all",
    help="most members of an ensemble that predict a base; default: 2 of the shipped model's, else "
    "all",
  )
  add(
    "--fasta",
    type=Path,
    nargs="+",
    default=[],
    metavar="PATH",
    help="FASTA or GenBank files, plain or compressed (gzip, xz, bzip2), or folders of them",
  )
  add("--list", type=Path, help="file with a path a line and, after a tab, its annotation")
  add("--out", required=True, type=Path, help="directory to write to; made if needed")
  add(
    "--circular",
    metavar="all|none|NAME,NAME|@FILE",
    help="contigs whose end joins their start; without it, those that GenBank or the annotation "
    "(Is_circular=true) declares, and all others are linear",
  )
  add("--alias", type=Path, help="two columns, tab: contig and its name in all outputs")
  add(
    "--annotation",
    type=Path,
    help="GFF3, GTF or GenBank; or a folder with one of the same stem for each genome",
  )
  add("--store", type=Path, help="track store, or run that has one: observed values and splits")
  add(
    "--formats",
    default=f"{BIGWIG},{BROWSER}",
    metavar="NAME,NAME",
    help=f"out of {', '.join(FORMATS)}; default {BIGWIG},{BROWSER}: tracks, "
    "and what opens them in IGV, JBrowse 2 and UCSC's browser",
  )
  add("--units", choices=list(UNITS), default="log_tpm", help="of expression; log_tpm: ln(1 + TPM)")
  add(
    "--operon-threshold",
    type=float,
    default=OPERON_THRESHOLD,
    help=f"probability from which genes share an operon; default {OPERON_THRESHOLD}",
  )
  add(
    "--call-genes",
    choices=("auto", "never"),
    default="auto",
    help="auto: where no annotation is given, call genes from the sequence, if the checkpoint has "
    "learnt to",
  )
  add(
    "--reverse-complement-average",
    action="store_true",
    help="average the predictions of both strands: twice the work",
  )
  seen = parser.add_mutually_exclusive_group()
  seen.add_argument(
    "--out-of-fold",
    action="store_const",
    const=True,
    help="refuse what no member of the ensemble has been trained on, and what all have; without "
    "it, contigs that share bases with the genomes of training are predicted by members that have "
    "not seen them, as far as there are such",
  )
  seen.add_argument(
    "--in-sample",
    dest="out_of_fold",
    action="store_const",
    const=False,
    help="predict everything by all members of an ensemble, also what they were trained on",
  )
  add("--batch-windows", type=int, help="windows at once, over all devices; default: fill them")
  add("--margin-bp", type=int, help="bases dropped at a window's ends; default: a quarter of it")
  add(
    "--phase-tolerance",
    metavar="HEAD=VALUE,…",
    help="choose the smallest margin with which other places of the windows change nothing by more "
    "than this (log TPM, genes per bin, probability), measured on the first genome",
  )
  add("--organism", help="name or row, where the model was trained on several organisms")
  add("--device", help="platform such as cpu or gpu; default: what JAX finds")
  group = parser.add_argument_group(
    "several processes", "share the genomes; found by themselves on SLURM and Open MPI"
  )
  group.add_argument("--process-index", type=int, metavar="I", help="this one, from 0")
  group.add_argument("--process-count", type=int, metavar="N", help="processes in all")
  return parser.parse_args(list(arguments))


def _settings(options: argparse.Namespace) -> "Settings":
  """Collects what to write; checks it before any work is done."""
  from alphaecoli.inference.output import Settings

  formats = tuple(dict.fromkeys(name for name in options.formats.split(",") if name))
  for name in formats:
    if name not in FORMATS:
      raise ConfigError(f"--formats={name}; expected some of {', '.join(FORMATS)}")
    if name in OPTIONAL:
      optional(OPTIONAL[name], "formats")
  if BROWSER in formats and BIGWIG not in formats:
    raise ConfigError(
      f"--formats={options.formats}: {BROWSER} shows the tracks of {BIGWIG}: add it"
    )
  if not 0 <= options.operon_threshold <= 1:
    raise ConfigError(f"--operon-threshold={options.operon_threshold}; expected 0 to 1")
  store = _open_store(options.store, options.organism) if options.store else None
  call_genes = options.call_genes == "auto"
  return Settings(formats, options.units, options.operon_threshold, store, call_genes)


def _open_store(path: Path, organism: str | None) -> "TrackStore":
  """Opens a track store, or that of a run, and reads its genes.

  Args:
    path: directory of a store; or of a run, whose store may lie elsewhere, as a fold's does.
    organism: name or row of one of a run's organisms.

  Raises:
    DataError: there is none, several, or it is broken.
    ConfigError: the run has several organisms, and none of them is chosen.
  """
  from alphaecoli.checkpoints.read import CHECKPOINTS_DIR, find_checkpoint, read_meta
  from alphaecoli.tracks.store import MANIFEST, open_store
  from alphaecoli.tracks.track_table import store_paths

  if (path / CHECKPOINTS_DIR).is_dir():
    paths, fingerprint = store_paths(read_meta(find_checkpoint(path)), path, organism)
    stores = (open_store(place) for place in paths if place.is_dir())
    own = next((store for store in stores if store.fingerprint == fingerprint), None)
    if own is None:
      raise DataError(f"--store={path}: the store of this run is not at {paths[0]}; name it")
    store = own
  else:
    inside = [path] if (path / MANIFEST).is_file() else sorted(path.glob("tracks/*"))
    found = [folder for folder in inside if (folder / MANIFEST).is_file()]
    if len(found) != 1:
      names = f"; it has {', '.join(map(str, found))}" if found else ""
      folds = next(iter(sorted(path.glob("fold_*"))), None)
      hint = f"; name that of a fold, such as {folds}" if folds else ""
      raise DataError(f"--store={path}: expected one track store, or a run with one{names}{hint}")
    store = open_store(found[0])
  _ = store.all_genes  # now, so that a broken table ends the command before any work
  return store


def _check_writable(folder: Path) -> None:
  """Raises DataError where the output directory can not be made or written to."""
  there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
  if not there.is_dir() or not os.access(there, os.W_OK):
    reason = "no permission" if there.is_dir() else f"{there} is a file"
    raise DataError(f"{folder}: can not be written to: {reason}")


def _predictor(
  options: argparse.Namespace, first: "GenomeFile"
) -> "tuple[Predictor, dict[str, Any]]":
  """Loads the model and, where asked, measures which margin it needs."""
  from alphaecoli.api import load_predictor
  from alphaecoli.genomics.genbank import read_sequences
  from alphaecoli.inference.margins import choose_margin, read_tolerance

  if options.margin_bp is not None and options.phase_tolerance:
    raise ConfigError("--margin-bp and --phase-tolerance: give one of them")
  if options.out_of_fold and options.phase_tolerance:
    raise ConfigError(
      "--out-of-fold and --phase-tolerance: give one of them; alphaecoli.phases measures margins"
    )
  tolerance = read_tolerance(options.phase_tolerance) if options.phase_tolerance else {}
  predictor: Predictor = load_predictor(
    options.checkpoint,
    device=options.device,
    batch_windows=options.batch_windows,
    margin_bp=options.margin_bp,
    organism=options.organism,
    out_of_fold=options.out_of_fold,
    members=options.members,
  )
  untrained = [head for head in TRACK_HEADS if head not in predictor.trained_heads]
  if untrained:
    cli.LOGGER.warning("not trained in this checkpoint, so not written: %s", ", ".join(untrained))
  if not tolerance:
    return predictor, {}
  contigs, _ = read_sequences(first.path)
  longest = max(contigs, key=lambda contig: contig.length_bp)
  predictor, measured = choose_margin(predictor, longest.codes, tolerance)
  cli.LOGGER.info("margin %d bp: %s", predictor.margin_bp, measured["largest_difference"])
  return predictor, {"phase_difference": {"path": str(first.path), **measured}}


def _report(batch: "GenomeBatch", out: Path) -> None:
  """Logs the last lines."""
  count = f"{batch.written} genome{'' if batch.written == 1 else 's'} predicted"
  more = {"done already": batch.passed_over, "failed": len(batch.failures)}
  words = ", ".join([count, *(f"{n} {what}" for what, n in more.items() if n)])
  page = out / "igv.html"
  cli.LOGGER.info("%s: %s", words, f"open {page} in a browser" if page.exists() else out)
  for reason in batch.failures.values():
    cli.LOGGER.error("failed: %s", reason)


if __name__ == "__main__":
  cli.run(main)
