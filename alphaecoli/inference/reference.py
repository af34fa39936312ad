"""What users may pass as a sequence, as a genome and as an interval of it."""

import dataclasses
import difflib
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from alphaecoli import genome
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genome import UNKNOWN, Contig

FILE_ENDINGS = (".fa", ".fna", ".fasta", ".gb", ".gbk", ".gbff", ".gz")


class Interval(NamedTuple):
  """A stretch of a contig, 0-based and half-open."""

  contig: str
  start: int
  end: int

  @classmethod
  def parse(cls, text: str) -> "Interval":
    """Reads `contig:start-end`, 1-based and inclusive as in samtools; commas are ignored.

    Raises:
      ConfigError: not of that form.
    """
    contig, colon, span = text.rpartition(":")
    first, dash, last = span.replace(",", "").partition("-")
    if not (contig and colon and dash and first.isdecimal() and last.isdecimal()):
      raise ConfigError(
        f"interval {text!r}; expected contig:start-end, 1-based and inclusive: chr:101-300"
      )
    if not 1 <= int(first) <= int(last):
      raise ConfigError(f"interval {text!r}; expected 1 <= start <= end")
    return cls(contig, int(first) - 1, int(last))

  def __str__(self) -> str:
    return f"{self.contig}:{self.start + 1}-{self.end}"


class Located(NamedTuple):
  """A sequence to predict and where: what a user's arguments come to."""

  codes: UInt8[np.ndarray, " L"]
  contig: str
  circular: bool
  interval: tuple[int, int] | None


def read_genome(
  path: str | os.PathLike[str], circular: bool | Collection[str] | None = None
) -> dict[str, Contig]:
  """Reads a genome: its contigs by name.

  Args:
    path: a FASTA file, plain or gzip.
    circular: whether the ends of all contigs join, or the names of those whose ends do; None keeps
      what the file says, and FASTA says nothing, which counts as linear.

  Raises:
    DataError: the file is missing, broken or empty.
    ConfigError: `circular` names a contig that is not there.
  """
  contigs = {contig.name: contig for contig in genome.read_fasta(path)}
  if circular is None:
    return contigs
  if isinstance(circular, str):
    circular = (circular,)
  rings = circular if isinstance(circular, Collection) else contigs if circular else ()
  for name in rings:
    find_contig(contigs, name)
  return {
    name: dataclasses.replace(contig, circular=name in rings) for name, contig in contigs.items()
  }


def as_genome(source: Any) -> dict[str, Contig]:
  """A genome from what users have: contigs by name, a list of contigs, one contig, or a file.

  Raises:
    DataError: something else, or an unreadable file.
  """
  if isinstance(source, str | os.PathLike):
    return read_genome(source)
  if isinstance(source, Contig):
    return {source.name: source}
  contigs = list(source.values()) if isinstance(source, Mapping) else source
  if not isinstance(contigs, Sequence) or not all(isinstance(c, Contig) for c in contigs):
    raise DataError(
      f"genome is a {type(source).__name__}; expected a file name, a Contig, or what "
      "alphaecoli.read_genome gives"
    )
  if not contigs:
    raise DataError("the genome has no contig")
  return {contig.name: contig for contig in contigs}


def find_contig(contigs: Mapping[str, Contig], name: str) -> Contig:
  """A contig by its exact name.

  Raises:
    ConfigError: there is none; names the nearest ones.
  """
  if name not in contigs:
    near = difflib.get_close_matches(name, contigs, n=3, cutoff=0)
    raise ConfigError(
      f"no contig {name!r} in the genome, which has {len(contigs)}; nearest: {', '.join(near)}"
    )
  return contigs[name]


def locate(source: Any, interval: Any, circular: bool | None) -> Located:
  """The sequence and the stretch of it that a user's arguments stand for.

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
  name, span = None, None
  if interval is not None:
    *names, start, end = _three_or_two(interval)
    name, span = (names[0] if names else None), (start, end)
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
  ring = bool(contig.circular) if circular is None else circular
  return Located(contig.codes, contig.name, ring, span)


def _three_or_two(interval: Any) -> tuple[Any, ...]:
  """(start, end) or (contig, start, end), checked."""
  good = isinstance(interval, Sequence) and len(interval) in (2, 3)
  if not (good and all(isinstance(x, int | np.integer) for x in interval[-2:])):
    raise ConfigError(
      f"interval {interval!r}; expected (start, end) or (contig, start, end), 0-based and "
      "half-open, or text such as 'chr:101-300'"
    )
  return (*interval[:-2], int(interval[-2]), int(interval[-1]))


def as_codes(sequence: Any) -> UInt8[np.ndarray, " L"]:
  """Letters or codes as codes.

  Raises:
    DataError: empty, letters that stand for no nucleotide, or codes outside 0 to 4.
  """
  if isinstance(sequence, str) and sequence.lower().endswith(FILE_ENDINGS):
    raise DataError(
      f"{sequence!r} looks like a file, and text is read as bases; for a file pass "
      "pathlib.Path(...) or alphaecoli.read_genome(...)"
    )
  if isinstance(sequence, str | bytes):
    codes = genome.encode(sequence)
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
