"""Genome sequence: FASTA, integer codes, reverse complement.

Bases `A C G T` are 0 1 2 3, the order AlphaGenome uses; every other letter is 4, which one-hot
encodes to zeros.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from alphaecoli.errors import DataError
from alphaecoli.genomics.text import open_binary

UNKNOWN = 4
_BASES = b"ACGTN"
_BAD = 255
_GAPS = b"-.*"


def _encoding_table() -> bytes:
  """Makes the table for `bytes.translate`: the code of every byte, `_BAD` of what is no letter."""
  table = bytearray([_BAD] * 256)
  for letter in range(ord("A"), ord("Z") + 1):
    table[letter] = table[letter + 32] = UNKNOWN
  for letter in _GAPS:
    table[letter] = UNKNOWN
  for code, letter in enumerate(b"ACGT"):
    table[letter] = table[letter + 32] = code
  return bytes(table)


_ENCODE = _encoding_table()
_COMPLEMENT = np.array([3, 2, 1, 0, UNKNOWN], np.uint8)


@dataclasses.dataclass(frozen=True, slots=True)
class Contig:
  """One sequence of a FASTA or GenBank file.

  Attributes:
    name: first word of the header line.
    codes: bases as 0 to 4.
    description: the rest of the header line.
    circular: whether its end joins its start; None where the file does not say (FASTA).
  """

  name: str
  codes: UInt8[np.ndarray, "L"]
  description: str = ""
  circular: bool | None = None

  @property
  def length_bp(self) -> int:
    """Returns the number of bases."""
    return len(self.codes)


def read_fasta(path: str | os.PathLike[str]) -> list[Contig]:
  """Reads every sequence of a FASTA file, plain or gzip (told by content, not by name).

  Lower case counts as upper case; IUPAC letters, other letters and gaps become 4.

  Raises:
    DataError: the file is missing, truncated, empty or not FASTA; names the file and line.
  """
  # Biopython's iterators read a genome of 4.6 Mb in 50 to 65 ms instead of 80, but count no lines.
  path = Path(path)
  if not path.is_file():
    raise DataError(f"{path}: no such genome file; expected a FASTA, plain or gzip")
  contigs: list[Contig] = []
  header: str | None = None
  header_line = 0
  codes = bytearray()

  def finish() -> None:
    if header is None:
      return
    if not codes:
      raise DataError(f"{path}: line {header_line}: contig '{header}' has no sequence")
    name, _, description = header.partition(" ")
    if any(c.name == name for c in contigs):
      raise DataError(f"{path}: line {header_line}: contig '{name}' appears twice")
    contigs.append(Contig(name, np.frombuffer(bytes(codes), np.uint8), description.strip()))

  with open_binary(path) as file:
    for number, raw in enumerate(file, start=1):
      line = raw.removeprefix(b"\xef\xbb\xbf").strip()
      if line.startswith(b">"):
        finish()
        header, header_line = line[1:].decode("utf-8", "replace").strip(), number
        header = header.replace("\t", " ")
        if not header:
          raise DataError(f"{path}: line {number}: a contig without a name after '>'")
        codes = bytearray()
      elif line:
        if header is None:
          raise DataError(f"{path}: line {number}: not FASTA; the first line must start with '>'")
        codes += _encode_line(line, path, number)
  finish()
  if not contigs:
    raise DataError(f"{path}: holds no sequence; expected a FASTA, plain or gzip")
  return contigs


def _encode_line(line: bytes, path: Path, number: int) -> bytes:
  """Encodes a line of a FASTA file, with or without blanks between letters."""
  codes = line.translate(_ENCODE)
  if _BAD in codes:
    if b" " in line or b"\t" in line:
      return _encode_line(line.replace(b" ", b"").replace(b"\t", b""), path, number)
    letter = chr(line[codes.index(_BAD)])
    raise DataError(f"{path}: line {number}: {letter!r} is not a letter of a sequence")
  return codes


def encode(sequence: str | bytes) -> UInt8[np.ndarray, "S"]:
  """Encodes letters: A C G T (either case) as 0 1 2 3, any other letter or gap as 4.

  Raises:
    DataError: a character that is neither letter nor gap; says which and where.
  """
  text = sequence.encode("utf-8") if isinstance(sequence, str) else bytes(sequence)
  codes = text.translate(_ENCODE)
  if _BAD in codes:
    at = codes.index(_BAD)
    raise DataError(f"sequence: {chr(text[at])!r} at position {at} is not a letter of a sequence")
  return np.frombuffer(codes, np.uint8)


def decode(codes: UInt8[np.ndarray, "S"]) -> str:
  """Decodes to upper case letters; 4 becomes N."""
  return np.frombuffer(_BASES, np.uint8)[codes].tobytes().decode("ascii")


def reverse_complement(codes: UInt8[np.ndarray, "S"]) -> UInt8[np.ndarray, "S"]:
  """Returns the other strand in its own direction; 4 stays 4."""
  return _COMPLEMENT[codes[::-1]]


def random_genome(length_bp: int, seed: int) -> Contig:
  """Draws a contig named `random`: independent, equally likely bases."""
  codes = np.random.default_rng(seed).integers(0, 4, length_bp, np.uint8)
  return Contig("random", codes, f"made-up sequence, seed {seed}")
