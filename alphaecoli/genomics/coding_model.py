"""What tells the protein-coding genes of a genome from other open reading frames, and their starts.

Codon pairs, start codons and the motif before them (of most bacteria, where the ribosome binds) are
counted in known genes; weights say how much they, and what a checkpoint predicts at each base,
count. A genome with enough genes is counted anew from the genes called in it.
Source of the evidence: Hyatt et al. 2010, doi:10.1186/1471-2105-11-119; of the estimation of a
motif by expectation and maximisation: Bailey and Elkan 1994.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8
from numpy.lib.stride_tricks import sliding_window_view

from alphaecoli.genomics.sequence import UNKNOWN, reverse_complement

STARTS, STOPS = ("ATG", "GTG", "TTG"), ("TAA", "TAG", "TGA")
VERSION = 1  # raise it when a weight comes to mean something else
UPSTREAM_BP = 24  # before a start codon, where the motif lies
SPACING_BP = 3  # fewest bases between the motif and the start codon
CONSENSUS = "AGGAGG"  # the motif that the estimation starts from: Shine and Dalgarno 1974
_PRIOR = 20.0  # pseudocounts of a codon's followers
_ROUNDS = 15  # of expectation and maximisation
_LETTERS = "ACGT"
_ARRAYS = ("codon_pairs", "motif", "spacing")
FEATURES = (
  "structure",  # log odds that a checkpoint predicts, over the bases of the gene
  "codon_pairs",
  "start",  # that of the start codon and the motif
  "codons",
  "structure_per_codon",
  "codon_pairs_per_codon",
  "log_codons",
)
START_FEATURES: Sequence[str] = (*STARTS[1:], "motif", "codon_pairs", "codons")
_COMPLEMENTS = np.array([16 * (3 - c) + 4 * (3 - b) + 3 - a for a, b, c in np.ndindex(4, 4, 4)])


class Counts(NamedTuple):
  """What known genes of one or several sequences add up to.

  Attributes:
    genes: number of genes.
    coding: pairs of neighbouring codons in genes, by the number of each.
    background: pairs of triplets three bases apart, in all frames of both strands.
    upstream: bases before the start codons, where all are known.
  """

  genes: int
  coding: Int64[np.ndarray, "64 64"]
  background: Int64[np.ndarray, "64 64"]
  upstream: UInt8[np.ndarray, "n U"]

  def __add__(self, other: Any) -> "Counts":
    return Counts(
      self.genes + other.genes,
      self.coding + other.coding,
      self.background + other.background,
      np.concatenate([self.upstream, other.upstream]),
    )


@dataclasses.dataclass(frozen=True)
class CodingModel:
  """Evidence of genes, and the weight of each kind of it.

  Attributes:
    codon_pairs: log odds of a codon after another in a gene, against any frame.
    motif: log odds of the bases of the motif, against any base before a start codon.
    spacing: probability of each place of the motif, from the furthest on; sums to the share of
      genes that have one.
    start_weights: of the start codons, of the log odds of the motif, of those of the codon pairs
      from the start on, and of each codon; they choose among the starts of one stop codon.
    call_weights: of the features of `FEATURES`, with a "bias"; the sum is the log odds of a gene.
  """

  codon_pairs: Float64[np.ndarray, "64 64"]
  motif: Float64[np.ndarray, "W 4"]
  spacing: Float64[np.ndarray, " P"]
  start_weights: Mapping[str, float]
  call_weights: Mapping[str, float]

  @classmethod
  def of(
    cls, counts: Counts, start_weights: Mapping[str, float], call_weights: Mapping[str, float]
  ) -> "CodingModel":
    """Estimates the evidence from counts."""
    coding, background = _conditional(counts.coding), _conditional(counts.background)
    odds = np.log(coding) - np.log(background)
    odds[_STOPS] = odds[:, _STOPS] = 0.0
    motif, spacing = _estimate_motif(counts.upstream)
    return cls(odds, motif, spacing, start_weights, call_weights)

  def recounted(self, counts: Counts) -> "CodingModel":
    """Returns the model of another genome: evidence from its counts, and the same weights."""
    return CodingModel.of(counts, self.start_weights, self.call_weights)

  def motif_odds(
    self, codes: UInt8[np.ndarray, " L"], starts: Int64[np.ndarray, " n"] | None = None
  ) -> Float64[np.ndarray, " n"]:
    """Returns, for a start codon at each base, or at some, the log odds of what lies before it."""
    width = len(self.motif)
    found = np.zeros(len(codes) if starts is None else len(starts))
    if len(codes) <= UPSTREAM_BP:
      return found
    numbers = np.zeros((n := len(codes) - width + 1), np.int32)
    for i in range(width):
      numbers = numbers * (UNKNOWN + 1) + codes[i : n + i]
    odds = self._every_motif[numbers]
    late = slice(UPSTREAM_BP, None) if starts is None else starts >= UPSTREAM_BP
    mean = np.full(len(found[late]), 1 - self.spacing.sum())
    for place, share in enumerate(self.spacing):
      every = slice(place, place + len(mean))
      mean += share * odds[every if starts is None else starts[late] - UPSTREAM_BP + place]
    found[late] = np.log(mean)
    return found

  @functools.cached_property
  def _every_motif(self) -> Float64[np.ndarray, " m"]:
    """Computes the odds of every motif that there can be, unknown bases counting 0."""
    sums = np.zeros(1)
    for weights in np.pad(self.motif, ((0, 0), (0, 1))):
      sums = (sums[:, None] + weights).ravel()
    return np.exp(sums)

  @functools.cached_property
  def every_pair(self) -> Float64[np.ndarray, " 4225"]:
    """Returns the log odds of every pair of triplets, 0 of unknown ones, which are -1."""
    return np.pad(self.codon_pairs, ((1, 0), (1, 0))).ravel()

  def to_json(self) -> dict[str, Any]:
    """Returns plain values, rounded to what counts of genes can tell."""
    return {
      "version": VERSION,
      **{key: np.round(getattr(self, key), 4).tolist() for key in _ARRAYS},
      "start_weights": dict(self.start_weights),
      "call_weights": dict(self.call_weights),
    }

  @classmethod
  def from_json(cls, value: Mapping[str, Any] | None) -> "CodingModel | None":
    """Reads what `to_json` returned; None where there is none, or it is of another version."""
    if value is None or value["version"] != VERSION:
      return None
    pairs, motif, spacing = (np.array(value[key], np.float64) for key in _ARRAYS)
    return cls(pairs, motif, spacing, value["start_weights"], value["call_weights"])


def word(codon: str) -> int:
  """Returns the number of a codon in base 4."""
  a, b, c = (_LETTERS.index(letter) for letter in codon)
  return 16 * a + 4 * b + c


_STARTS, _STOPS = ([word(codon) for codon in codons] for codons in (STARTS, STOPS))
# By the number of a triplet; the last one, of unknown triplets (-1), is neither.
_IS_START, _IS_STOP = (np.isin(np.arange(65), codons) for codons in (_STARTS, _STOPS))


def words(codes: UInt8[np.ndarray, " L"]) -> Int64[np.ndarray, " L"]:
  """Returns the number of the triplet that begins at each base; -1 where a base is unknown."""
  found = np.full(len(codes), -1, np.int64)
  a, b, c = (codes[i : max(len(codes) - 2 + i, i)] for i in range(3))
  numbers = 16 * a + 4 * b + c  # at most 84 with unknown ones
  found[: len(numbers)] = np.where((a | b | c) < UNKNOWN, numbers.view(np.int8), np.int8(-1))
  return found


def pair_odds(model: CodingModel, codons: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
  """Returns the log odds of each codon after the one before it; 0 of the first and unknown ones."""
  found = np.zeros(len(codons))
  found[1:] = model.every_pair[65 * codons[:-1] + codons[1:] + 66]
  return found


def count(codes: UInt8[np.ndarray, " L"], genes: Iterable[tuple[int, int, int]]) -> Counts:
  """Counts the codon pairs of a sequence, and those and the starts of genes in it.

  Args:
    codes: bases A C G T as 0 1 2 3, anything else 4; genes that pass the end go on at the start.
    genes: start, end (half-open) and strand of each gene.
  """
  forward = words(codes)
  counted = _pairs(forward[:-3], forward[3:])  # and, next line, those of the other strand
  background = counted + counted[np.ix_(_COMPLEMENTS, _COMPLEMENTS)].T
  genes, coding, upstream = list(genes), np.zeros((64, 64), np.int64), []
  for strand in (1, -1):
    own = np.array([(a, b) for a, b, on in genes if on == strand], np.int64).reshape(-1, 2)
    first, size = own[:, 0] if strand > 0 else len(codes) - own[:, 1], own[:, 1] - own[:, 0]
    bases = codes if strand > 0 else reverse_complement(codes)
    sizes = -(-size // 3)
    number = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    numbers = forward if strand > 0 else words(bases)
    codons = numbers[(np.repeat(first, sizes) + 3 * number) % len(codes)]
    second = np.flatnonzero(number > 0)  # and further ones of a gene
    coding += _pairs(codons[second - 1], codons[second])
    before = first[first >= UPSTREAM_BP, None] + np.arange(-UPSTREAM_BP, 0)
    upstream.append(bases[before][(bases[before] < UNKNOWN).all(axis=1)])
  return Counts(len(genes), coding, background, np.concatenate(upstream))


def _pairs(
  first: Int64[np.ndarray, " n"], then: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, "64 64"]:
  """Counts pairs of triplets, unknown ones, of number -1, left out."""
  return np.bincount(65 * first + then + 66, minlength=65 * 65).reshape(65, 65)[1:, 1:]


def _conditional(pairs: Int64[np.ndarray, "64 64"]) -> Float64[np.ndarray, "64 64"]:
  """Returns the probability of a codon after each other one, smoothed by that of the codon."""
  codon = pairs.sum(axis=0) + 1.0
  smoothed = pairs + _PRIOR * codon / codon.sum()
  return np.asarray(smoothed / smoothed.sum(axis=1, keepdims=True))


def _estimate_motif(
  upstream: UInt8[np.ndarray, "n U"],
) -> tuple[Float64[np.ndarray, "W 4"], Float64[np.ndarray, " P"]]:
  """Estimates the motif before start codons, and where it lies, by expectation-maximisation."""
  width = len(CONSENSUS)
  places = UPSTREAM_BP - width - SPACING_BP + 1
  if not len(upstream):
    return np.zeros((width, 4)), np.zeros(places)
  base = np.bincount(upstream.ravel(), minlength=4) + 1.0
  base /= base.sum()
  motif = np.full((width, 4), 0.1)
  motif[range(width), [_LETTERS.index(letter) for letter in CONSENSUS]] = 0.7
  spacing = np.full(places, 0.7 / places)
  windows = sliding_window_view(upstream, width, axis=1)[:, :places]
  letters = np.unravel_index(np.arange(4**width), (4,) * width)  # of every motif, by place
  at = np.ravel_multi_index(tuple(np.moveaxis(windows, 2, 0)), (4,) * width)
  for _ in range(_ROUNDS):
    odds = np.log(motif / base)
    joint = np.exp(sum(odds[i][letters[i]] for i in range(width)))[at] * spacing
    share = joint / (joint.sum(axis=1, keepdims=True) + 1 - spacing.sum())
    spacing = np.clip((share.sum(axis=0) + 0.1) / (len(upstream) + 1), 1e-6, None)
    spacing *= min(1.0, 0.99 / spacing.sum())
    found = np.bincount(at.ravel(), share.ravel(), minlength=4**width)
    motif = np.array([np.bincount(of_place, found) for of_place in letters]) + 5 * base
    motif /= motif.sum(axis=1, keepdims=True)
  return np.log(motif / base), spacing


class Frames(NamedTuple):
  """The open reading frames of one strand, each with its best start codon.

  Attributes:
    start: first base of the start codon, on the strand as it is read.
    end: base after the stop codon.
    features: those of `FEATURES`.
  """

  start: Int64[np.ndarray, " f"]
  end: Int64[np.ndarray, " f"]
  features: Float64[np.ndarray, "f F"]


def reading_frames(
  codes: UInt8[np.ndarray, " L"],
  logits: Float[np.ndarray, "L 3"],
  model: CodingModel,
  min_codons: int,
) -> Frames:
  """Finds the open reading frames of one strand, in the direction in which it is read.

  Args:
    codes: bases of the strand.
    logits: predicted log odds of the three codon positions at each base.
    model: evidence and weights.
    min_codons: fewest codons, start and stop among them.
  """
  numbers = words(codes)
  starts, motif = np.flatnonzero(_IS_START[numbers]), np.zeros(len(codes))
  motif[starts] = model.motif_odds(codes, starts)
  found = []
  for frame in range(3):
    n = (len(codes) - frame) // 3
    at = slice(frame, frame + 3 * n, 3)
    codons = numbers[at]
    ends = np.flatnonzero(_IS_STOP[codons])
    if not len(ends):
      continue
    size = int(ends[-1]) + 1
    parts = [logits[frame + i : frame + i + 3 * n : 3, i][:n] for i in range(3)]
    structure, pairs = _sums(sum(parts[1:], parts[0])), _sums(pair_odds(model, codons))
    start = start_scores(model, codons[:size], motif[at][:size])
    k = np.arange(size)
    # Up to a stop codon the sum from a start on is what comes to it less what comes to the start.
    weights = model.start_weights
    gain = start - weights["codon_pairs"] * pairs[k + 1] - weights["codons"] * k
    firsts = np.concatenate([[0], ends[:-1] + 1])
    best = np.repeat(np.maximum.reduceat(gain, firsts), ends + 1 - firsts)
    first = np.minimum.reduceat(np.where(gain == best, k, size), firsts)
    kept = np.isfinite(gain[first]) & (ends + 1 - first >= min_codons)
    first, last = first[kept], ends[kept] + 1
    length = (last - first).astype(np.float64)
    of_structure = structure[last] - structure[first]
    of_pairs = pairs[last] - pairs[first + 1]
    columns = (of_structure, of_pairs, start[first], length)
    more = (of_structure / length, of_pairs / length, np.log(length))
    found.append(Frames(frame + 3 * first, frame + 3 * last, np.column_stack(columns + more)))
  if not found:
    return Frames(np.zeros(0, int), np.zeros(0, int), np.zeros((0, len(FEATURES))))
  return Frames(*(np.concatenate(column) for column in zip(*found, strict=True)))


def log_odds(model: CodingModel, features: Float64[np.ndarray, "f F"]) -> Float64[np.ndarray, " f"]:
  """Returns the log odds that reading frames are genes."""
  weights = np.array([model.call_weights[name] for name in FEATURES])
  return features @ weights + model.call_weights["bias"]


def start_scores(
  model: CodingModel, codons: Int64[np.ndarray, " n"], motif: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
  """Scores codons as starts, by themselves and what lies before; -inf where they are none."""
  found = np.full(len(codons), -np.inf)
  for codon, number in zip(STARTS, _STARTS, strict=True):
    at = codons == number
    found[at] = model.start_weights[codon] + model.start_weights["motif"] * motif[at]
  return found


def _sums(values: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " m"]:
  """Returns the sums of the first 0, 1, 2 … values."""
  return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
