"""What the members of an ensemble had to do with the bases of any sequence.

A sequence is found in the genomes of training by its bases: as a whole, by its hash; in parts, on
either strand and from any base on, by 32-mers that occur once in a genome. One 32-mer in 16 is
looked at, chosen by its hash, so that both sides choose the same ones.
"""

import dataclasses
import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8, UInt64

from alphaecoli.errors import DataError
from alphaecoli.genomics.intervals import StartEnd, merge, regions_of
from alphaecoli.genomics.sequence import UNKNOWN, read_fasta, reverse_complement
from alphaecoli.tracks.splits import SEEN, UNTOUCHED, exposure, hash_genome

LOGGER = logging.getLogger(__name__)
EMBEDDED = Path(__file__).parents[1] / "datasets"
K = 32  # two bits a base fill 64 bits
_MIXER, _SAMPLED_BITS = np.uint64(0x9E3779B97F4A7C15), np.uint64(60)  # Knuth's hash; 1 in 16
_FEW = 0.001  # share of bases that no warning is needed for
SHORTEST_BP = 128  # of a match that counts as shared
# A match bridges so much without a 32-mer, has at least one in so many bases (at 92% identity a
# sampled one is intact every 230 bp), and reaches on over bases that are equal.
_BRIDGE_BP, _SPARSEST_BP = 10_000, 256
_FEWEST = 2  # 32-mers of a match: one may tell a repeat's copy by a single base beside it
_NEAR_BP = 1_000  # what lies between matches no further apart is as they are


@dataclasses.dataclass(frozen=True)
class Match:
  """A part of a sequence that a genome has too.

  Attributes:
    start: its first base.
    end: the base after its last.
    first: position of its first base in the genome.
    strand: 1, or -1 where the genome has its reverse complement.
    anchors: number of 32-mers found in it.
  """

  start: int
  end: int
  first: int
  strand: int
  anchors: int

  def positions(self, length_bp: int) -> Int64[np.ndarray, " n"]:
    """Returns the place of each base in the genome, which is read as circular."""
    return (self.first + self.strand * np.arange(self.end - self.start)) % length_bp


class GenomeIndex:
  """A genome in which parts of sequences are found."""

  def __init__(self, codes: UInt8[np.ndarray, " L"]):
    """Indexes a chromosome, read as circular."""
    self.codes = codes
    places, hashes, forward = sample_kmers(np.concatenate([codes, codes[: K - 1]]))
    self._hashes, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    self._places, self._forward, self._once = places[first], forward[first], counts == 1

  def find(self, codes: UInt8[np.ndarray, " Q"]) -> tuple[list[Match], list[StartEnd]]:
    """Finds what of a sequence the genome has.

    Returns:
      Matches whose place is known, those with the most 32-mers last; and regions of what the
      genome has several times.
    """
    places, hashes, forward = sample_kmers(codes)
    if not len(hashes) or not len(self._hashes):
      return [], []
    at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
    hit = self._hashes[at] == hashes
    several = [(place, place + K) for place in places[hit & ~self._once[at]].tolist()]
    repeated = [(a, b) for a, b in merge(several, SHORTEST_BP) if b - a >= SHORTEST_BP]
    once = hit & self._once[at]
    found = self._matches(codes, places[once], at[once], forward[once])
    return sorted(found, key=lambda match: match.anchors), repeated

  def _matches(
    self,
    codes: UInt8[np.ndarray, " Q"],
    places: Int64[np.ndarray, " n"],
    at: Int64[np.ndarray, " n"],
    forward: Bool[np.ndarray, " n"],
  ) -> Iterator[Match]:
    """Joins 32-mers that keep their distances and strand."""
    length = len(self.codes)
    same = forward == self._forward[at]
    # The genome's base beside the sequence's base 0, were the match to reach there.
    origin = np.where(same, self._places[at] - places, self._places[at] + K - 1 + places) % length
    order = np.lexsort((places, origin, same))
    places, origin, same = places[order], origin[order], same[order]
    breaks = (np.diff(origin) != 0) | (np.diff(same) != 0) | (np.diff(places) > _BRIDGE_BP)
    for group in np.split(np.arange(len(places)), np.flatnonzero(breaks) + 1):
      if len(group) < _FEWEST:
        continue
      start, end = int(places[group[0]]), int(places[group[-1]]) + K
      strand, zero = (1 if same[group[0]] else -1), int(origin[group[0]])
      if len(group) * _SPARSEST_BP < end - start:
        continue
      before = np.arange(start - 1, max(start - _BRIDGE_BP, 0) - 1, -1)
      after = np.arange(end, min(end + _BRIDGE_BP, len(codes)))
      start -= self._equal(codes, before, zero, strand)
      end += self._equal(codes, after, zero, strand)
      if end - start >= SHORTEST_BP:
        yield Match(start, end, (zero + strand * start) % length, strand, len(group))

  def _equal(
    self, codes: UInt8[np.ndarray, " Q"], bases: Int64[np.ndarray, " n"], zero: int, strand: int
  ) -> int:
    """Counts the bases from the first on that are equal to the genome's."""
    theirs = self.codes[(zero + strand * bases) % len(self.codes)]
    theirs = theirs if strand > 0 else np.where(theirs == UNKNOWN, UNKNOWN, 3 - theirs)
    differ = np.flatnonzero((codes[bases] != theirs) | (theirs == UNKNOWN))
    return int(differ[0]) if len(differ) else len(bases)


def sample_kmers(
  codes: UInt8[np.ndarray, " L"],
) -> tuple[Int64[np.ndarray, " n"], UInt64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
  """Returns the sampled 32-mers of a sequence without unknown bases in them.

  Returns:
    Their first bases, their hashes, which are those of the smaller one of 32-mer and reverse
    complement, and whether that is the 32-mer.
  """
  if len(codes) < K:
    return np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, bool)
  ours, theirs = _pack(codes), _pack(reverse_complement(codes))[::-1]
  hashes = np.minimum(ours, theirs) * _MIXER
  places = np.flatnonzero(hashes < np.uint64(1) << _SAMPLED_BITS)
  unknown = np.concatenate([[0], np.cumsum(codes == UNKNOWN, dtype=np.int32)])
  places = places[unknown[places + K] == unknown[places]]
  return places, hashes[places], (ours < theirs)[places]


def _pack(codes: UInt8[np.ndarray, " L"]) -> UInt64[np.ndarray, " n"]:
  """Packs the 32 bases from each base on into one number."""
  kmers, width = (codes & 3).astype(np.uint64), 1
  while width < K:
    kmers = (kmers[:-width] << np.uint64(2 * width)) | kmers[width:]
    width *= 2
  return kmers


@dataclasses.dataclass(frozen=True)
class Origin:
  """Which members of an ensemble made a prediction, base by base.

  Attributes:
    by: members that predicted each base.
    seen: whether one of these was trained on the base.
  """

  by: Bool[np.ndarray, "M S"]
  seen: Bool[np.ndarray, " S"]

  @classmethod
  def of(cls, by: Bool[np.ndarray, "M S"], exposures: UInt8[np.ndarray, "M S"]) -> "Origin":
    """Derives `seen` from what the members had to do with the bases."""
    return cls(by, (by & (exposures == SEEN)).any(axis=0))


@functools.cache
def embedded_genomes() -> Mapping[str, UInt8[np.ndarray, " L"]]:
  """Reads the chromosomes in the package, by hash."""
  contigs = (contig for file in EMBEDDED.glob("*/*.fna.gz") for contig in read_fasta(file))
  return {hash_genome(contig.codes): contig.codes for contig in contigs}


def least_exposed(exposures: UInt8[np.ndarray, "M n"], most: int) -> Bool[np.ndarray, "M n"]:
  """Chooses the members that had least to do with each base, at most so many, the first ones."""
  best = exposures == exposures.max(axis=0)
  return best & (best.cumsum(axis=0, dtype=np.int32) <= most)


def share_of_choice(exposures: UInt8[np.ndarray, "M n"]) -> float:
  """Returns the share of bases with which some members had less to do than others."""
  return float((exposures != exposures[0]).any(axis=0).mean())


def check_unseen(name: str, start: int, exposures: UInt8[np.ndarray, "M n"], bp: int) -> None:
  """Checks that some member was not trained on each base, or bin.

  Args:
    name: name of the contig.
    start: its first base that counts.
    exposures: SEEN, HELD_OUT or UNTOUCHED of each member and base, or bin.
    bp: bases of each.

  Raises:
    DataError: all were trained on some.
  """
  best = exposures.max(axis=0)
  if seen := int((best == SEEN).sum()):
    raise DataError(
      f"{name}: every member was trained on {seen:,} of {len(best):,} "
      f"{'bases' if bp == 1 else 'bins'}, the first at base {start + bp * int(best.argmin())}; "
      "out of fold, the ensemble must have the folds that hold them out"
    )
  if bp == 1 and (held_out := int((best < UNTOUCHED).sum())):
    LOGGER.warning(
      "%s: %s bases are in no member's test split; members that held them out otherwise, for "
      "validation, predict them",
      name,
      f"{held_out:,}",
    )


def say_shared(total: int, out_of_fold: int, seen: int) -> None:
  """Says what was predicted out of fold, and what members had seen all the same.

  Args:
    total: bases in all.
    out_of_fold: those in contigs that were predicted out of fold.
    seen: those that members predicted which were trained on them.
  """
  notes = []
  if out_of_fold:
    notes.append(
      f"{out_of_fold / total:.1%} lie in contigs that members were trained on, and are predicted "
      "out of fold, their genomes without spreads"
    )
  if seen:
    notes.append(
      f"{seen / total:.1%} are predicted by members that saw them in a genome of training, since "
      "all did or the contig has few such"
    )
  if notes:
    level = logging.WARNING if seen > _FEW * total else logging.INFO
    LOGGER.log(level, "of %s bp %s: columns members and seen", f"{total:,}", "; ".join(notes))


class Exposures:
  """What the members of an ensemble had to do with bases, by what their checkpoints say."""

  def __init__(self, trained: Sequence[Mapping[str, Any]], folder: Path | None = None):
    """Keeps what is needed.

    Args:
      trained: JSON items of the members' checkpoints, which say what they were trained on.
      folder: folder of FASTA files of genomes of training, beside the embedded one.
    """
    self._trained = [(meta["trained_on"], meta["config"]["data"]) for meta in trained]
    self._digests = {entry["genome_sha256"] for seen, _ in self._trained for entry in seen}
    self._folder = folder
    self._indices: dict[str, GenomeIndex] | None = None
    self._seen: dict[str, UInt8[np.ndarray, "M L"]] = {}  # of genomes of training, by hash
    self._found: dict[str, Any] = {}  # by hash of a sequence, what of it each genome has

  def of(self, codes: UInt8[np.ndarray, " L"]) -> UInt8[np.ndarray, "M L"]:
    """Returns SEEN, HELD_OUT or UNTOUCHED for each member and base of a sequence."""
    digest = hash_genome(codes)
    if digest in self._digests:
      return self._whole(digest, codes)
    result = np.full((len(self._trained), len(codes)), UNTOUCHED, np.uint8)
    if digest not in self._found:
      self._found[digest] = [index.find(codes) for index in self._genomes().values()]
    found = zip(self._found[digest], self._genomes().items(), strict=True)
    for (matches, repeated), (name, index) in found:
      if matches or repeated:
        parts = _of_parts(matches, repeated, self._whole(name, index.codes), len(codes))
        np.minimum(result, parts, out=result)
    return result

  def _whole(self, digest: str, codes: UInt8[np.ndarray, " L"]) -> UInt8[np.ndarray, "M L"]:
    """Returns the same for a genome of training, base by base from the same first one on."""
    if digest not in self._seen:
      self._seen[digest] = np.stack([exposure(seen, data, codes) for seen, data in self._trained])
    return self._seen[digest]

  def _genomes(self) -> dict[str, GenomeIndex]:
    """Returns the genomes of training that are there, by hash."""
    if self._indices is None:
      contigs = dict(embedded_genomes())
      for file in self._folder.glob("*.fna.gz") if self._folder else ():
        contigs |= {hash_genome(contig.codes): contig.codes for contig in read_fasta(file)}
      known = sorted(self._digests & contigs.keys())
      self._indices = {digest: GenomeIndex(contigs[digest]) for digest in known}
    return self._indices


def _of_parts(
  matches: Iterable[Match],
  repeated: Iterable[StartEnd],
  whole: UInt8[np.ndarray, "M L"],
  length_bp: int,
) -> UInt8[np.ndarray, "M Q"]:
  """Carries what members saw of a genome over to a sequence that has parts of it.

  What the genome has several times counts as seen by all who were trained on it, unless its
  surroundings say which copy it is.
  """
  repeated = list(repeated)
  trained = (whole != UNTOUCHED).any(axis=1) if repeated else None
  result = np.full((len(whole), length_bp), UNTOUCHED, np.uint8)
  shared = np.zeros(length_bp, bool)
  for start, end in repeated:
    result[trained, start:end] = SEEN
    shared[start:end] = True
  for match in matches:
    part = slice(match.start, match.end)
    result[:, part] = whole[:, match.positions(whole.shape[1])]
    shared[part] = True
  for start, end in regions_of(~shared) if shared.any() else ():
    if start > 0 and end < len(shared) and end - start <= _NEAR_BP:
      result[:, start:end] = np.minimum(result[:, start - 1], result[:, end])[:, None]
  return result
