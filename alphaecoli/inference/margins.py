"""How much a prediction depends on where its windows lie.

Attention spans the whole window, so no margin makes a base blind to its window's ends: the
difference is measured, not assumed.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.inference.prediction import TRACK_HEADS
from alphaecoli.inference.predictor import Predictor, Progress
from alphaecoli.inference.tiling import check_margin
from alphaecoli.schema import BIN_BP, HEADS

# Quantiles of the absolute difference that are reported; the last one is the largest difference.
QUANTILES = (0.5, 0.99, 1.0)
SHARES = (0, 2, 4, 6, 7)  # margins that are tried, in sixteenths of the window
SAMPLE_WINDOWS, SAMPLE_PHASES = 16, 7


def at_margin(predictor: Predictor, margin_bp: int) -> Predictor:
  """Returns the same compiled model with another margin.

  Raises:
    ConfigError: the margin is not possible.
  """
  check_margin(margin_bp, predictor.window_bp)
  other = copy.copy(predictor)
  other.margin_bp = margin_bp
  other.members = tuple(at_margin(member, margin_bp) for member in predictor.members)
  return other


def phases(predictor: Predictor, count: int) -> list[int]:
  """Chooses offsets of the windows, spread evenly over the part kept of each: whole bins, not 0.

  Windows repeat after `window - 2 * margin`: there are no other offsets than those from 0 to there,
  but for those of whole stretches, at whose ends convolutions see zeros.
  """
  bins = (predictor.window_bp - 2 * predictor.margin_bp) // BIN_BP
  spread = {round(i * bins / (count + 1)) for i in range(1, count + 1)}
  return [BIN_BP * i for i in sorted(spread) if 0 < i < bins]


def phase_differences(
  predictor: Predictor,
  codes: UInt8[np.ndarray, " L"],
  shifts: Sequence[int],
  progress: Progress | None = None,
) -> dict[str, dict[float, float]]:
  """Measures how a circular prediction changes with the offset of its windows.

  Args:
    predictor: predictor with the margin in question.
    codes: bases of a circular contig; a multiple of 128 long, so that bins fit at every offset.
    shifts: offsets of the windows, multiples of 128.
    progress: callback with the number of bases finished since its last call.

  Returns:
    For each trained head with tracks the quantiles `QUANTILES` over all bases (or bins), tracks
    and shifts; 1.0 is the largest. Expression in ln(1 + TPM), density in genes per bin, operon
    membership as probability.

  Raises:
    DataError: the length is not a multiple of 128.
  """
  if len(codes) % BIN_BP:
    raise DataError(f"a circular contig of {len(codes)} bp; expected a multiple of {BIN_BP}")
  first = predictor.predict(codes, circular=True, progress=progress)
  heads = [head for head in TRACK_HEADS if head in predictor.trained_heads]
  found: dict[str, list[np.ndarray]] = {head: [] for head in heads}
  for shift in shifts:
    shifted = predictor.predict(np.roll(codes, -shift), circular=True, progress=progress)
    for head, values in found.items():
      rows = shift // HEADS[head].resolution_bp
      back = np.roll(getattr(shifted, head), rows, axis=0)
      values.append(np.abs(back - getattr(first, head)).ravel())
  return {head: _quantiles(values) for head, values in found.items()}


def _quantiles(values: Iterable[np.ndarray]) -> dict[float, float]:
  """Computes quantiles of all values; 0 where there are none (a single offset is possible)."""
  together = np.concatenate([np.zeros(1, np.float32), *values])
  return {q: float(np.quantile(together, q)) for q in QUANTILES}


def margins(window_bp: int) -> list[int]:
  """Chooses margins to compare: 0, 1/8, 1/4, 3/8 and 7/16 of the window, in whole bins."""
  return sorted({window_bp * n // 16 // BIN_BP * BIN_BP for n in SHARES})


def read_tolerance(text: str) -> dict[str, float]:
  """Reads HEAD=VALUE,HEAD=VALUE.

  Raises:
    ConfigError: no such head, or not a number of at least 0.
  """
  found = {}
  for word in text.split(","):
    head, _, value = word.partition("=")
    if head not in TRACK_HEADS or not value.replace(".", "", 1).isdecimal():
      raise ConfigError(
        f"--phase-tolerance={word}; expected HEAD=VALUE with one of {', '.join(TRACK_HEADS)}"
      )
    found[head] = float(value)
  return found


def choose_margin(
  predictor: Predictor, codes: UInt8[np.ndarray, " L"], tolerance: Mapping[str, float]
) -> tuple[Predictor, dict[str, Any]]:
  """Finds the smallest margin whose largest difference stays within a tolerance, on a sample.

  Args:
    predictor: predictor of any margin, which is not used.
    codes: bases of a contig; as many as 16 windows have are read as circular, at 7 other offsets.
    tolerance: largest difference, by head, in the units of `phase_differences`.

  Returns:
    The predictor with that margin, and what was measured, for the record.

  Raises:
    ConfigError: none is wide enough; says what the best one reaches.
    DataError: the contig is shorter than a bin.
  """
  bases = min(len(codes), SAMPLE_WINDOWS * predictor.window_bp) // BIN_BP * BIN_BP
  if not bases:
    raise DataError(f"a contig of {len(codes)} bp is too short to measure window offsets on")
  reached: list[str] = []
  for margin in margins(predictor.window_bp):
    model = at_margin(predictor, margin)
    found = phase_differences(model, codes[:bases], phases(model, SAMPLE_PHASES))
    largest = {head: values[1.0] for head, values in found.items()}
    if all(largest.get(head, 0.0) <= most for head, most in tolerance.items()):
      measured = {"bases": bases, "phases": SAMPLE_PHASES + 1, "largest_difference": largest}
      return model, {"tolerance": dict(tolerance), **measured}
    words = ", ".join(f"{head} {value:.3g}" for head, value in largest.items())
    reached.append(f"{margin} bp: {words}")
  raise ConfigError(f"no margin holds the tolerance on {bases} bp: {'; '.join(reached)}")
