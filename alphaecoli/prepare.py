"""Any organism's files to a track store: `python -m alphaecoli.prepare --help`."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphaecoli import cli
from alphaecoli.config import base_config, from_arguments, resolve
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.organism.expression import UNITS
from alphaecoli.schema import DataConfig

# What computes is imported where it is used: --help and a wrong flag answer at once.
if TYPE_CHECKING:
  from alphaecoli.organism.read import Files
  from alphaecoli.tracks.store import TrackStore

DESCRIPTION = """\
Writes the track store of any bacterium from its genome (chromosomes and plasmids), annotation,
expression and operons, with a quality report. Train on it with --config.data.stores=STORE.
Formats: docs/organisms.md.

  --config FILE               configuration; default configs/base.py
  --config.data.key=value     splits, tracks and thresholds, such as --config.data.fold=1
"""
READERS = 3  # raise it where the same files come to give other values
_FROM_DUMPS = ("dump", "genome", "max_docs_per_file", "stores")  # keys that have no say here


def main(arguments: Sequence[str]) -> int:
  """Runs the command."""
  parser = cli.parser("prepare", DESCRIPTION)
  add = parser.add_argument
  add("--genome", required=True, type=Path, help="FASTA or GenBank")
  add("--annotation", type=Path, help="GFF3, GTF or GenBank; not needed where --genome holds genes")
  tools = "Salmon, kallisto, RSEM, StringTie, featureCounts, htseq-count"
  what = f"tables: gene, then a column a sample; or files of {tools}"
  add("--expression", type=Path, nargs="+", action="extend", help=what)
  units = "of --expression; default: as its columns say, else tpm"
  add("--values", choices=list(UNITS), help=units)
  add("--samples", type=Path, help="table: sample, then a column a growth condition")
  add("--operons", type=Path, help="TSV (operon, genes, start, end) or GFF3 with operon features")
  add("--contig", help="the one contig to prepare; default: every one that holds a window")
  add("--name", help="of the organism, for training on several; default: the name of --out")
  add("--out", required=True, type=Path, help="directory of the store; must not exist yet")
  options, rest = parser.parse_known_args(arguments)
  config, _ = from_arguments(rest)
  from alphaecoli.organism.read import Files

  named = vars(options)
  fields = {f.name: named[f.name] for f in dataclasses.fields(Files) if f.name in named}
  if options.expression:
    fields["expression"], *more = options.expression
    fields["more_expression"] = tuple(more)
  store = prepare(
    Files(**fields),
    config.data,
    options.out,
    name=organism_name(options.name, options.out),
    contig=options.contig,
  )
  cli.LOGGER.info("train on it: python -m alphaecoli.train --config.data.stores=%s", store.path)
  return 0


def organism_name(name: str | None, out: Path) -> str:
  """Names an organism, by default that of its store's directory.

  Raises:
    ConfigError: it would make a bad file name.
  """
  name = out.resolve().name if name is None else name
  if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
    raise ConfigError(f"--name={name}; expected letters, digits, dots, dashes and underscores")
  return name


def prepare(
  files: "Files", data: DataConfig, out: Path, *, name: str, contig: str | None = None
) -> "TrackStore":
  """Reads an organism's files and writes its track store.

  Args:
    files: files to read.
    data: splits, tracks and thresholds.
    out: directory of the store.
    name: name of the organism.
    contig: name of the one contig; by default every one that holds a window.

  Raises:
    ConfigError: a key that has no say here, or a contig, data set or track that does not exist.
    DataError: a file is missing or broken, or `out` holds something else.
  """
  from alphaecoli.organism.read import read_organism
  from alphaecoli.tracks.process import say_unused, store_metadata
  from alphaecoli.tracks.replicons import build_tracks, describe, pooled
  from alphaecoli.tracks.store import MANIFEST, open_store
  from alphaecoli.tracks.write import write_store

  base = resolve(base_config()).data
  for key in _FROM_DUMPS:
    if getattr(data, key) != getattr(base, key):
      raise ConfigError(f"data.{key} has no say here: --genome, --annotation, … name the inputs")
  genome = read_organism(files, data, contig)
  genome_records, data = pooled([records for records, _ in genome]), genome[0][1]
  more: dict[str, Any] = {
    "genome_source": "file",
    "organism": name,
    "contig_name": genome_records.contig.name,
  }
  unit = genome_records.expression.unit if genome_records.expression else files.values or "tpm"
  more |= {"expression_values": unit, "readers": str(READERS)}
  more |= {"replicons": roles} if (roles := describe(genome)) else {}
  identity = store_metadata(data, files.by_name(), more)
  if out.exists():
    store = open_store(out) if (out / MANIFEST).is_file() else None
    if store is None or store.fingerprint != identity["fingerprint"]:
      raise DataError(
        f"{out} is there already and is not this store, or was read by an earlier version; delete "
        "it, or choose another --out"
      )
    cli.LOGGER.info("%s: inputs and configuration are the same, used again", out)
    return store
  tracks = build_tracks(genome)
  say_unused(tracks[0], genome_records, data)
  store = write_store(out, tracks, identity)
  cli.LOGGER.info("%s", genome_records.report.table())
  cli.LOGGER.info("track store %s of %s is complete", out, name)
  return store


if __name__ == "__main__":
  cli.run(main)
