"""Conversion of what users pass as a sequence, as a genome and as an interval of it."""

import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import UInt8

from alphaecoli.errors import ConfigError, DataError, nearest
from alphaecoli.genomics.genes import ContigFeatures, Gene, place_genes
from alphaecoli.genomics.intervals import Interval
from alphaecoli.genomics.read import read_annotated, read_elements
from alphaecoli.genomics.sequence import UNKNOWN, Contig, encode
from alphaecoli.genomics.text import PACKED
from alphaecoli.inference.genomes import Topology, choose_topology

Found = TypeVar("Found")
FILE_ENDINGS = (".fa", ".fna", ".fasta", ".gb", ".gbk", ".gbff", *PACKED)


class Located(NamedTuple):
  """A sequence to predict and where: what a user's arguments come to."""

  codes: UInt8[np.ndarray, " L"]
  contig: str
  circular: bool
  interval: tuple[int, int] | None


class AnnotatedGenome(Mapping[str, Contig]):
  """Contigs by name, with their genes and operons where files name them.

  Attributes:
    features: genes and operons, by contig; empty without an annotation.
  """

  def __init__(
    self, contigs: Iterable[Contig], features: Mapping[str, ContigFeatures] | None = None
  ):
    self._contigs = {contig.name: contig for contig in contigs}
    self.features = dict(features or {})

  def __getitem__(self, name: str) -> Contig:
    return self._contigs[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._contigs)

  def __len__(self) -> int:
    return len(self._contigs)

  def genes(self) -> list[Gene]:
    """Returns all genes, contig by contig."""
    return [gene for around in self.features.values() for gene in around.genes]

  def gene(self, name: str) -> Gene:
    """Finds a gene by its locus tag, id or name.

    Raises:
      ConfigError: there is no such gene, or several.
    """
    for key in ("locus_tag", "id", "name"):
      found = [gene for gene in self.genes() if getattr(gene, key) == name]
      if len(found) > 1:
        places = ", ".join(f"{g.contig}:{g.start + 1}-{g.end}" for g in found[:3])
        raise ConfigError(f"{len(found)} genes are called {name!r}: {places}; use a locus tag")
      if found:
        return found[0]
    if not self.genes():
      raise ConfigError(f"gene {name!r} needs an annotation, and the genome was read without one")
    labels = {n for p in self.genes() for n in (p.locus_tag, p.name) if n}
    near = nearest(name, sorted(labels), 3)
    raise ConfigError(f"no gene {name!r} in the annotation; nearest: {near}")


def read_genome(
  path: str | os.PathLike[str],
  *,
  annotation: str | os.PathLike[str] | None = None,
  operons: str | os.PathLike[str] | None = None,
  circular: bool | Collection[str] | Topology | None = None,
) -> AnnotatedGenome:
  """Reads a genome: its contigs by name, with genes and operons where files name them.

  Args:
    path: FASTA or GenBank, plain or compressed; GenBank brings its genes and topology.
    annotation: genes in GFF3, GTF or GenBank, instead of the file's own.
    operons: features of type operon in GFF3, or BED.
    circular: whether the ends of all contigs join, or the names of those whose ends do; None keeps
      what the files say, and what they do not declare is linear.

  Raises:
    DataError: a file is missing, broken or empty, or no gene lies on a contig.
    ConfigError: `circular` names a contig that is not there.
  """
  contigs, genes_of = read_annotated(Path(path), None if annotation is None else Path(annotation))
  is_circular = choose_topology(contigs, _topology(circular), genes_of)
  contigs = [dataclasses.replace(c, circular=is_circular[c.name]) for c in contigs]
  lengths = {contig.name: contig.length_bp for contig in contigs}
  genes = {} if genes_of is None else place_genes(genes_of, lengths, is_circular)
  intervals: dict[str, list[tuple[int, int]]] = {name: [] for name in lengths}
  if operons is not None:
    for element in read_elements(Path(operons), "operon"):
      find_contig(lengths, element.contig)
      intervals[element.contig].append((element.start, element.end))
  features = {
    name: ContigFeatures(genes.get(name, ()), None if operons is None else intervals[name])
    for name in lengths
  }
  return AnnotatedGenome(contigs, features)


def _topology(circular: bool | Collection[str] | Topology | None) -> Topology:
  """Converts the argument `circular` to what the command line's flag would give."""
  if circular is None or isinstance(circular, Topology):
    return circular or Topology()
  if isinstance(circular, bool):
    return Topology(every=circular)
  names = [circular] if isinstance(circular, str) else circular
  return Topology(named={name: True for name in names})


def as_genome(source: Any) -> AnnotatedGenome:
  """Makes a genome of what users have: `read_genome`'s, contigs by name or in a list, or a file.

  Raises:
    DataError: something else, or an unreadable file.
  """
  if isinstance(source, AnnotatedGenome):
    return source
  if isinstance(source, str | os.PathLike):
    return read_genome(source)
  contigs = [source] if isinstance(source, Contig) else source
  contigs = list(contigs.values()) if isinstance(contigs, Mapping) else contigs
  if not isinstance(contigs, Sequence) or not all(isinstance(c, Contig) for c in contigs):
    raise DataError(
      f"genome is a {type(source).__name__}; expected a file name, a Contig, or what "
      "alphaecoli.read_genome gives"
    )
  if not contigs:
    raise DataError("the genome has no contig")
  return AnnotatedGenome(contigs)


def find_contig(contigs: Mapping[str, Found], name: str) -> Found:
  """Finds a contig by its exact name.

  Raises:
    ConfigError: there is none; names the nearest ones.
  """
  if name not in contigs:
    near = nearest(name, contigs, 3)
    raise ConfigError(
      f"no contig {name!r} in the genome, which has {len(contigs)}; nearest: {near}"
    )
  return contigs[name]


def locate(source: Any, interval: Any, circular: bool | None) -> Located:
  """Resolves a user's arguments to a sequence and an interval of it.

  Args:
    source: letters, codes, a Contig, contigs by name or in a list, or a `Path`.
    interval: None, (start, end) or (contig, start, end), 0-based and half-open, or text as
      `Interval.parse` reads.
    circular: None: as the contig says, else linear.

  Raises:
    DataError: the sequence is empty or not one, or a file is unreadable.
    ConfigError: the interval does not fit.
  """
  if isinstance(interval, str):
    interval = Interval.parse(interval)
  name, bounds = None, None
  if interval is not None:
    *names, start, end = _three_or_two(interval)
    name, bounds = (names[0] if names else None), (start, end)
  if isinstance(source, str | bytes | np.ndarray):
    contig = Contig("" if name is None else name, as_codes(source))
  else:
    contigs = as_genome(source)
    if name is None and len(contigs) > 1:
      raise ConfigError(
        f"the genome has {len(contigs)} contigs, among them {', '.join(list(contigs)[:3])}; "
        "expected an interval (contig, start, end) or one of the contigs"
      )
    contig = find_contig(contigs, next(iter(contigs)) if name is None else name)
  circular = bool(contig.circular) if circular is None else circular
  return Located(contig.codes, contig.name, circular, bounds)


def _three_or_two(interval: Any) -> tuple[Any, ...]:
  """Checks a (start, end) or (contig, start, end)."""
  good = isinstance(interval, Sequence) and len(interval) in (2, 3)
  if not (good and all(isinstance(x, int | np.integer) for x in interval[-2:])):
    raise ConfigError(
      f"interval {interval!r}; expected (start, end) or (contig, start, end), 0-based and "
      "half-open, or text such as 'chr:101-300'"
    )
  return (*interval[:-2], int(interval[-2]), int(interval[-1]))


def as_codes(sequence: Any) -> UInt8[np.ndarray, " L"]:
  """Converts letters or codes to codes.

  Raises:
    DataError: empty, letters that stand for no nucleotide, or codes outside 0 to 4.
  """
  if isinstance(sequence, str) and sequence.lower().endswith(FILE_ENDINGS):
    raise DataError(
      f"{sequence!r} looks like a file, and text is read as bases; for a file pass "
      "pathlib.Path(...) or alphaecoli.read_genome(...)"
    )
  if isinstance(sequence, str | bytes):
    codes = encode(sequence)
  else:
    codes = np.asarray(sequence)
    if codes.ndim != 1 or not np.issubdtype(codes.dtype, np.integer):
      raise DataError(
        f"sequence is an array of {codes.dtype} and shape {codes.shape}; expected one row of codes "
        "0 to 4 (A C G T = 0 1 2 3, unknown 4), or a string"
      )
    if codes.size and not 0 <= codes.min() <= codes.max() <= UNKNOWN:
      raise DataError(f"sequence has codes from {codes.min()} to {codes.max()}; expected 0 to 4")
    codes = codes.astype(np.uint8)
  if not codes.size:
    raise DataError("the sequence is empty; expected at least one base")
  return codes
