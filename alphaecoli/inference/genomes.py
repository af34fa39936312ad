"""A genome ready to be predicted: contigs, which of them are rings, their genes, their names."""

import dataclasses
import difflib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.genbank import read_sequences
from alphaecoli.genomics.genes import AnnotatedGene, Annotation, place_genes
from alphaecoli.genomics.gff3 import read_gff3
from alphaecoli.genomics.sequence import UNKNOWN, Contig
from alphaecoli.inference.operon_calls import in_order
from alphaecoli.inference.sources import Source, read_table
from alphaecoli.tracks.store import TrackStore

LOGGER = logging.getLogger("alphaecoli.predict")

MANY_UNKNOWN = 0.5  # share of a contig; proteins read as nucleotides have 0.8


@dataclasses.dataclass(frozen=True)
class NamedContig:
  """One contig of a genome.

  Attributes:
    name: as in the file.
    label: its name in the outputs: the same, or its alias.
    codes: bases, 0 to 4.
    circular: whether its end joins its start.
    genes: in order along it.
  """

  name: str
  label: str
  codes: UInt8[np.ndarray, " L"]
  circular: bool
  genes: tuple[AnnotatedGene, ...] = ()


@dataclasses.dataclass(frozen=True)
class Genome:
  """One genome.

  Attributes:
    source: where it comes from.
    contigs: sorted by label (in bytes), as BigWig wants it.
    annotated: whether there is an annotation.
  """

  source: Source
  contigs: tuple[NamedContig, ...]
  annotated: bool

  @property
  def length_bp(self) -> int:
    """Bases of all contigs."""
    return sum(len(contig.codes) for contig in self.contigs)


@dataclasses.dataclass(frozen=True)
class Topology:
  """What the command line says about rings.

  Attributes:
    every: whether all contigs are rings, or none; None: as their file says.
    named: contigs that the command line names, and whether they are rings.
  """

  every: bool | None = None
  named: Mapping[str, bool] = dataclasses.field(default_factory=dict)


def read_topology(text: str | None) -> Topology:
  """Reads --circular: all, none, names joined by commas, or @FILE.

  A file has a name a line; after a tab it may say circular (as without) or linear.

  Raises:
    DataError: the file can not be read.
  """
  if text is None:
    return Topology()
  if text in ("all", "none"):
    return Topology(every=text == "all")
  if not text.startswith("@"):
    return Topology(named={name: True for name in text.split(",") if name})
  words = {"circular": True, "linear": False}
  named = {}
  for row in read_table(Path(text[1:]), "--circular"):
    if len(row) > 2 or (row[-1] not in words and len(row) == 2):
      raise DataError(f"{text[1:]}: {row}; expected a contig and, after a tab, circular or linear")
    named[row[0]] = words[row[1]] if len(row) == 2 else True
  return Topology(named=named)


def read_aliases(path: Path | None) -> dict[str, str]:
  """Reads --alias: contig and new name, a pair a line.

  Raises:
    DataError: it can not be read, or a line has no two columns.
  """
  aliases = {}
  for row in read_table(path, "--alias") if path else []:
    if len(row) != 2 or len(row[1].split()) != 1:
      raise DataError(f"--alias={path}: {row}; expected two columns: contig and new name, one word")
    aliases[row[0]] = row[1]
  return aliases


def read_genome(
  source: Source,
  topology: Topology,
  aliases: Mapping[str, str],
  store: TrackStore | None = None,
  alone: bool = True,
) -> Genome:
  """Reads a genome with its annotation: its GFF3, else its own (GenBank), else the store's.

  Args:
    source: its files.
    topology: what the command line says.
    aliases: new names of contigs.
    store: genes to use where the genome has that chromosome and no other annotation.
    alone: whether it is the only genome, so that a name that it lacks is a mistake.

  Raises:
    DataError: a file is missing or broken, or two contigs would have one name.
    ConfigError: the command line names a contig that it does not have.
  """
  contigs, annotation = read_sequences(source.path)
  if source.annotation is not None:
    annotation = read_gff3(source.annotation)
  lengths = {contig.name: contig.length_bp for contig in contigs}
  if annotation is None and store is not None and lengths.get(store.contig) == store.length_bp:
    annotation = store.annotation()
  _warn_of_letters(source.path, contigs)
  circular = choose_topology(contigs, topology, annotation, alone)
  placed = {} if annotation is None else place_genes(annotation, lengths, circular)
  named = [
    NamedContig(
      name=contig.name,
      label=aliases.get(contig.name, contig.name),
      codes=contig.codes,
      circular=circular[contig.name],
      genes=tuple(in_order(placed.get(contig.name, ()))),
    )
    for contig in contigs
  ]
  labels = [contig.label for contig in named]
  if twice := {label for label in labels if labels.count(label) > 1}:
    raise DataError(f"{source.path}: two contigs would be named {min(twice)} by --alias")
  named.sort(key=lambda contig: contig.label.encode())
  return Genome(source, tuple(named), annotation is not None)


def _warn_of_letters(path: Path, contigs: Sequence[Contig]) -> None:
  """Warns of contigs that are no nucleotides."""
  for contig in contigs:
    unknown = float(np.mean(contig.codes == UNKNOWN))
    if unknown > MANY_UNKNOWN:
      LOGGER.warning(
        "%s: %.0f%% of %s is not A C G T; is it a nucleotide sequence?",
        path,
        100 * unknown,
        contig.name,
      )


def choose_topology(
  contigs: Sequence[Contig],
  topology: Topology,
  annotation: Annotation | None = None,
  alone: bool = True,
) -> dict[str, bool]:
  """Which contigs are rings: as the command line says, else their file, else they are linear.

  Raises:
    ConfigError: the command line names a contig that the only genome does not have.
  """
  names = [contig.name for contig in contigs]
  if alone:
    for name in sorted(set(topology.named) - set(names)):
      near = difflib.get_close_matches(name, names, n=1, cutoff=0)
      raise ConfigError(f"--circular={name}: no such contig in the genome; nearest: {near[0]}")
  declared = annotation.circular if annotation is not None else frozenset()
  rings: dict[str, tuple[bool, str]] = {}
  for contig in contigs:
    if topology.every is not None or contig.name in topology.named:
      ring = topology.named.get(contig.name, bool(topology.every))
      rings[contig.name] = ring, "--circular"
    elif contig.circular is not None:
      rings[contig.name] = contig.circular, "GenBank"
    elif contig.name in declared:
      rings[contig.name] = True, "annotation"
    else:
      rings[contig.name] = False, "not among --circular" if topology.named else ""
  _log_topology(contigs, rings)
  return {name: ring for name, (ring, _) in rings.items()}


def _log_topology(contigs: Sequence[Contig], rings: Mapping[str, tuple[bool, str]]) -> None:
  """Says which contigs are rings, and warns where linear is only an assumption."""
  groups: dict[tuple[bool, str], list[Contig]] = {}
  for contig in contigs:
    groups.setdefault(rings[contig.name], []).append(contig)
  for (ring, reason), members in groups.items():
    names = _some([c.name for c in members])
    if reason:
      LOGGER.info("%s (%s): %s", "circular" if ring else "linear", reason, names)
      continue
    complete = [c.name for c in members if _sounds_circular(c.description)]
    hint = f"; {_some(complete)} may be circular by the FASTA header" if complete else ""
    LOGGER.warning(
      "taken as linear, since nothing says otherwise: %s%s. For rings pass --circular all or names",
      names,
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
