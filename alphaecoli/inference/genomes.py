"""A genome ready to be predicted: contigs, their topology, their genes, their names."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from alphaecoli.errors import ConfigError, DataError, nearest
from alphaecoli.genomics.genbank import read_sequences
from alphaecoli.genomics.genes import Annotation, Gene, place_genes
from alphaecoli.genomics.gff3 import read_gff3
from alphaecoli.genomics.sequence import UNKNOWN, Contig
from alphaecoli.inference.genome_files import GenomeFile, read_table
from alphaecoli.inference.operon_calls import in_order
from alphaecoli.tracks.store import TrackStore

LOGGER = logging.getLogger(__name__)

MANY_UNKNOWN = 0.5  # fraction of a contig; proteins read as nucleotides have 0.8


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
  genes: tuple[Gene, ...] = ()


@dataclasses.dataclass(frozen=True)
class Genome:
  """One genome.

  Attributes:
    file: its files.
    contigs: sorted by label (in bytes), as BigWig wants it.
    annotated: whether there is an annotation.
  """

  file: GenomeFile
  contigs: tuple[NamedContig, ...]
  annotated: bool

  @property
  def length_bp(self) -> int:
    """Counts the bases of all contigs."""
    return sum(len(contig.codes) for contig in self.contigs)


@dataclasses.dataclass(frozen=True)
class Topology:
  """What the command line says about circular contigs.

  Attributes:
    every: whether all contigs are circular, or none; None: as their file says.
    named: contigs that the command line names, and whether they are circular.
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
  file: GenomeFile,
  topology: Topology,
  aliases: Mapping[str, str],
  store: TrackStore | None = None,
  alone: bool = True,
) -> Genome:
  """Reads a genome with its annotation: its GFF3, else its own (GenBank), else the store's.

  Args:
    file: sequence and annotation to read.
    topology: circular contigs by the command line.
    aliases: new names of contigs.
    store: source of genes where the genome has that chromosome and no other annotation.
    alone: whether it is the only genome, so that a name that it lacks is a mistake.

  Raises:
    DataError: a file is missing or broken, or two contigs would have one name.
    ConfigError: the command line names a contig that it does not have.
  """
  contigs, annotation = read_sequences(file.path)
  if file.annotation is not None:
    annotation = read_gff3(file.annotation)
  lengths = {contig.name: contig.length_bp for contig in contigs}
  if annotation is None and store is not None and lengths.get(store.contig) == store.length_bp:
    annotation = store.annotation()
  _warn_of_letters(file.path, contigs)
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
    raise DataError(f"{file.path}: two contigs would be named {min(twice)} by --alias")
  named.sort(key=lambda contig: contig.label.encode())
  return Genome(file, tuple(named), annotation is not None)


def _warn_of_letters(path: Path, contigs: Sequence[Contig]) -> None:
  """Warns of contigs that are not nucleotides."""
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
  """Decides which contigs are circular: by the command line, else their file, else none is.

  Raises:
    ConfigError: the command line names a contig that the only genome does not have.
  """
  names = [contig.name for contig in contigs]
  if alone:
    for name in sorted(set(topology.named) - set(names)):
      near = nearest(name, names)
      raise ConfigError(f"--circular={name}: no such contig in the genome; nearest: {near}")
  declared = annotation.circular if annotation is not None else frozenset()
  decided: dict[str, tuple[bool, str]] = {}  # with the reason
  for contig in contigs:
    if topology.every is not None or contig.name in topology.named:
      circular = topology.named.get(contig.name, bool(topology.every))
      decided[contig.name] = circular, "--circular"
    elif contig.circular is not None:
      decided[contig.name] = contig.circular, "GenBank"
    elif contig.name in declared:
      decided[contig.name] = True, "annotation"
    else:
      decided[contig.name] = False, "not among --circular" if topology.named else ""
  _log_topology(contigs, decided)
  return {name: circular for name, (circular, _) in decided.items()}


def _log_topology(contigs: Sequence[Contig], decided: Mapping[str, tuple[bool, str]]) -> None:
  """Logs which contigs are circular, and warns where linear is only an assumption."""
  groups: dict[tuple[bool, str], list[Contig]] = {}
  for contig in contigs:
    groups.setdefault(decided[contig.name], []).append(contig)
  for (circular, reason), members in groups.items():
    names = _some([c.name for c in members])
    if reason:
      LOGGER.info("%s (%s): %s", "circular" if circular else "linear", reason, names)
      continue
    complete = [c.name for c in members if _sounds_circular(c.description)]
    hint = f"; {_some(complete)} may be circular by the FASTA header" if complete else ""
    LOGGER.warning(
      "taken as linear, since nothing says otherwise: %s%s. For circular contigs pass --circular",
      names,
      hint,
    )


def _sounds_circular(description: str) -> bool:
  """Tells whether a FASTA header hints at a circular contig, as NCBI, Flye, Unicycler do."""
  text = description.lower()
  return any(hint in text for hint in ("complete genome", "complete sequence", "circular"))


def _some(names: Sequence[str], most: int = 5) -> str:
  """Joins the first names, and says how many more there are."""
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return ", ".join(names[:most]) + more
