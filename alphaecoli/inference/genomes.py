"""A genome ready to be predicted: contigs, their topology, their genes, their names."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from alphaecoli.errors import ConfigError, DataError, nearest
from alphaecoli.genomics.genes import Annotation, Gene, past_ends, place_genes
from alphaecoli.genomics.quality import GOOD_MATCH, shown
from alphaecoli.genomics.read import read_annotated, renamed
from alphaecoli.genomics.sequence import UNKNOWN, Contig
from alphaecoli.genomics.text import cut
from alphaecoli.inference.genome_files import GenomeFile, read_table
from alphaecoli.inference.operon_calls import in_order
from alphaecoli.tracks.store import TrackStore

LOGGER = logging.getLogger(__name__)

MANY_UNKNOWN = 0.5  # fraction of a contig


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
    observed: whether a store was given and has some of its genes.
  """

  file: GenomeFile
  contigs: tuple[NamedContig, ...]
  annotated: bool
  observed: bool = False

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
      found = cut(" ".join(row))
      raise DataError(
        f"{text[1:]}: {found}; expected a contig and, after a tab, circular or linear"
      )
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
      found = cut(" ".join(row))
      raise DataError(
        f"--alias={path}: {found}; expected two columns: contig and new name, one word"
      )
    aliases[row[0]] = row[1]
  return aliases


def read_genome(
  file: GenomeFile,
  topology: Topology,
  aliases: Mapping[str, str],
  store: TrackStore | None = None,
  alone: bool = True,
) -> Genome:
  """Reads a genome with its annotation: another file, else its own (GenBank), else the store's.

  Args:
    file: sequence and annotation to read.
    topology: circular contigs by the command line.
    aliases: new names of contigs.
    store: source of observed values; and of genes, where the genome has that chromosome, under any
      name, and no other annotation.
    alone: whether it is the only genome, so that a name that it lacks is a mistake.

  Raises:
    DataError: a file is missing or broken, or two contigs would have one name.
    ConfigError: the command line names a contig that it does not have.
  """
  contigs, annotation = read_annotated(file.path, file.annotation)
  lengths = {contig.name: contig.length_bp for contig in contigs}
  if annotation is None and store is not None:
    annotation = _annotation_of_store(file.path, contigs, store)
  _warn_of_letters(file.path, contigs)
  _check_aliases(file.path, contigs, aliases, alone)
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
    raise DataError(f"{file.path}: two contigs would be named {cut(min(twice))} by --alias")
  named.sort(key=lambda contig: contig.label.encode())
  observed = store is not None and _count_observed(file.path, store, placed, alone)
  return Genome(file, tuple(named), annotation is not None, observed)


def _annotation_of_store(
  path: Path, contigs: Sequence[Contig], store: TrackStore
) -> Annotation | None:
  """Returns the genes of those contigs that a store has; None where it has none of them."""
  names = {own: _contig_of_store(path, contigs, own) for own in store.replicons}
  found = [renamed(own.annotation(), {own.contig: n}) for own, n in names.items() if n is not None]
  if not found:
    return None
  genes = tuple(gene for annotation in found for gene in annotation.genes)
  circular = frozenset(name for annotation in found for name in annotation.circular)
  return dataclasses.replace(found[0], genes=genes, circular=circular)


def _contig_of_store(path: Path, contigs: Sequence[Contig], store: TrackStore) -> str | None:
  """Finds a store's chromosome in a genome: of its name and length, else with its bases."""
  same = [contig for contig in contigs if contig.length_bp == store.length_bp]
  if any(contig.name == store.contig for contig in same):
    return store.contig
  name = next((c.name for c in same if np.array_equal(c.codes, store.sequence)), None)
  if name is not None:
    LOGGER.info("%s: %s has the bases of the store's %s: its genes", path, name, store.contig)
  return name


def _count_observed(
  path: Path, store: TrackStore, placed: Mapping[str, Sequence[Gene]], alone: bool
) -> bool:
  """Returns whether a store has genes of the genome; warns where the only genome has others."""
  genes = [gene for members in placed.values() for gene in members]
  missing = [gene for gene in genes if store.all_genes.row(gene) is None]
  count = len(genes) - len(missing)
  if alone and not genes:
    text = "%s: the store is not used: no contig has the name and length, or the bases, of its %s"
    names = shown(own.contig for own in store.replicons)
    LOGGER.warning(f"{text} (%d bp)", path, names, sum(own.length_bp for own in store.replicons))
  elif alone and count < GOOD_MATCH * min(len(genes), len(store.all_genes)):
    LOGGER.warning(
      "%s: the store has %d of %d genes; others have no observed values: %s; the store names %s",
      path,
      count,
      len(genes),
      shown(gene.locus_tag or gene.id for gene in missing),
      shown(store.all_genes.locus_tag.tolist()),
    )
  return count > 0


def _check_aliases(
  path: Path, contigs: Sequence[Contig], aliases: Mapping[str, str], alone: bool
) -> None:
  """Warns of aliases of no contig of the only genome.

  Raises:
    ConfigError: all are.
  """
  names = [contig.name for contig in contigs]
  unused = [name for name in aliases if name not in names] if alone else []
  if unused and len(unused) == len(aliases):
    near = nearest(unused[0], names)
    raise ConfigError(
      f"--alias: no contig {cut(unused[0])!r} in the genome, nor any other of its {len(unused)} "
      f"names; nearest: {near}"
    )
  if unused:
    LOGGER.warning("--alias: %d names are of no contig of %s: %s", len(unused), path, shown(unused))


def _warn_of_letters(path: Path, contigs: Sequence[Contig]) -> None:
  """Warns of contigs that are mostly unknown."""
  for contig in contigs:
    unknown = float(np.mean(contig.codes == UNKNOWN))
    if unknown > MANY_UNKNOWN:
      LOGGER.warning(
        "%s: %.0f%% of the bases of %s are unknown (not A C G T), and predicted as such",
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
  lengths = {contig.name: contig.length_bp for contig in contigs}
  passed = past_ends(annotation, lengths) if annotation is not None else []
  decided: dict[str, tuple[bool, str]] = {}  # with the reason
  for contig in contigs:
    if topology.every is not None or contig.name in topology.named:
      circular = topology.named.get(contig.name, bool(topology.every))
      decided[contig.name] = circular, "--circular"
    elif contig.circular is not None:
      decided[contig.name] = contig.circular, "GenBank"
    elif contig.name in declared:
      decided[contig.name] = True, "annotation"
    elif contig.name in passed:
      decided[contig.name] = True, "a gene passes its end"
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
    hint = "for circular contigs pass --circular"
    if complete:
      hint = f"{_some(complete)} may be circular by the FASTA header: if so, pass --circular "
      hint += "all" if len(complete) == len(contigs) else ",".join(map(cut, complete[:5]))
    LOGGER.warning("taken as linear, since nothing says otherwise: %s; %s", names, hint)


def _sounds_circular(description: str) -> bool:
  """Tells whether a FASTA header hints at a circular contig, as NCBI, Flye, Unicycler do."""
  text = description.lower()
  return any(hint in text for hint in ("complete genome", "complete sequence", "circular"))


def _some(names: Sequence[str], most: int = 5) -> str:
  """Joins the first names, and says how many more there are."""
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return ", ".join(cut(name) for name in names[:most]) + more
