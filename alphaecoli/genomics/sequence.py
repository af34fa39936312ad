"""Genome sequence: FASTA, integer codes, reverse complement.

Bases `A C G T` are 0 1 2 3, the order AlphaGenome uses; U counts as T; every other letter is 4,
which one-hot encodes to zeros.
"""

import dataclasses
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from alphaecoli.errors import DataError
from alphaecoli.genomics.quality import shown
from alphaecoli.genomics.text import cut, open_text

LOGGER = logging.getLogger(__name__)

UNKNOWN = 4
_BASES = b"ACGTN"
_BAD = 255
_GAPS = b"-.*"
_AMINO_ACIDS = b"EFILPQefilpq"  # which no letter of nucleotides is
# The first base, in the order of the alphabet, of what an IUPAC letter may stand for; not of N.
# Source: VCF 4.3, section 1.6.1, REF; IUPAC-IUB 1984, doi:10.1093/nar/13.9.3021.
_FIRST_BASE = dict(zip("RYSWKMBDHV", "ACCAGACAAA", strict=True))


def _encoding_table() -> bytes:
  """Makes the table for `bytes.translate`: the code of every byte, `_BAD` of what is no letter."""
  table = bytearray([_BAD] * 256)
  for letter in range(ord("A"), ord("Z") + 1):
    table[letter] = table[letter + 32] = UNKNOWN
  for letter in _GAPS:
    table[letter] = UNKNOWN
  for code, letter in enumerate(b"ACGT"):
    table[letter] = table[letter + 32] = code
  table[ord("U")] = table[ord("u")] = 3
  return bytes(table)


_ENCODE = _encoding_table()
_VCF = bytearray(_ENCODE)
for _letter, _base in _FIRST_BASE.items():
  _VCF[ord(_letter)] = _VCF[ord(_letter) + 32] = _ENCODE[ord(_base)]
_COMPLEMENT = np.array([3, 2, 1, 0, UNKNOWN], np.uint8)


@dataclasses.dataclass(frozen=True, slots=True)
class Contig:
  """One sequence of a FASTA or GenBank file.

  Attributes:
    name: first word of the header line.
    codes: bases as 0 to 4.
    description: the rest of the header line.
    circular: whether its end joins its start; None where the file does not say (FASTA).
    vcf_codes: the codes with the base that VCF writes for an ambiguity letter, such as A for R;
      None where there is no such letter.
  """

  name: str
  codes: UInt8[np.ndarray, "L"]
  description: str = ""
  circular: bool | None = None
  vcf_codes: UInt8[np.ndarray, "L"] | None = None

  @property
  def length_bp(self) -> int:
    """Returns the number of bases."""
    return len(self.codes)


def read_fasta(path: str | os.PathLike[str]) -> list[Contig]:
  """Reads every sequence of a FASTA file, plain or compressed (told by content, not by name).

  Lower case counts as upper case, U as T; IUPAC letters, other letters and gaps become 4. Lines end
  with LF, CR or both.

  Raises:
    DataError: the file is missing, truncated, empty, not FASTA or of proteins; names the file and
      line.
  """
  # Biopython's iterators read a genome of 4.6 Mb in 50 to 65 ms instead of 80, but count no lines.
  path = Path(path)
  if not path.is_file():
    raise DataError(f"{path}: no such genome file; expected a FASTA, plain or compressed")
  contigs: dict[str, Contig] = {}
  header: str | None = None
  first = 0  # number of the header's line
  lines: list[str] = []
  rna: list[str] = []

  def finish() -> None:
    if header is None:
      return
    name, _, description = header.partition(" ")
    if not any(lines):
      raise DataError(f"{path}: line {first}: contig '{cut(name)}' has no sequence")
    if name in contigs:
      raise DataError(f"{path}: line {first}: contig '{cut(name)}' appears twice")
    letters = "".join(lines).encode("utf-8").replace(b" ", b"").replace(b"\t", b"")
    if _BAD in letters.translate(_ENCODE):
      raise DataError(f"{path}: line {_bad_line(lines, first)}")
    if _is_protein(letters):
      raise DataError(f"{path}: line {first}: {cut(name)} is a protein; expected nucleotides")
    contigs[name] = contig_of(name, letters, description.strip())
    if is_rna(letters):
      rna.append(name)

  with open_text(path, "FASTA", errors="replace") as file:
    for number, raw in enumerate(file, start=1):
      line = raw.strip()
      if line.startswith(">"):
        finish()
        header, first, lines = line[1:].strip().replace("\t", " "), number, []
        if not header:
          raise DataError(f"{path}: line {number}: a contig without a name after '>'")
      elif header is not None:
        lines.append(line)
      elif line:
        raise DataError(f"{path}: line {number}: not FASTA; the first line must start with '>'")
  finish()
  if not contigs:
    raise DataError(f"{path}: holds no sequence; expected a FASTA, plain or compressed")
  say_rna(path, rna)
  return list(contigs.values())


def _is_protein(letters: bytes) -> bool:
  """Returns whether at least a tenth of the letters stand for amino acids alone."""
  return 10 * len(letters.translate(None, _AMINO_ACIDS)) <= 9 * len(letters)


def _bad_line(lines: Sequence[str], first: int) -> str:
  """Says where the first character stands that is no letter, and what it is."""
  for number, line in enumerate(lines, start=first + 1):
    for letter in line:
      if letter not in " \t" and _BAD in letter.encode("utf-8").translate(_ENCODE):
        return f"{number}: {letter!r} is not a letter of a sequence"
  raise AssertionError("every line is good")


def contig_of(
  name: str, letters: bytes, description: str = "", circular: bool | None = None
) -> Contig:
  """Encodes the letters of a contig.

  Raises:
    DataError: a character that is neither letter nor gap.
  """
  codes = encode(letters)
  vcf = np.frombuffer(letters.translate(_VCF), np.uint8)
  same = np.array_equal(vcf, codes)
  return Contig(name, codes, description, circular, None if same else vcf)


def is_rna(letters: bytes) -> bool:
  """Returns whether a sequence has the letter U."""
  return b"U" in letters or b"u" in letters


def say_rna(path: Path, names: Sequence[str]) -> None:
  """Logs which contigs of a file are written in the letters of RNA."""
  if names:
    LOGGER.info("%s: U is read as T (RNA letters): %s", path, shown(names))


def encode(sequence: str | bytes) -> UInt8[np.ndarray, "S"]:
  """Encodes letters: A C G T (either case) as 0 1 2 3, U as T, any other letter or gap as 4.

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
