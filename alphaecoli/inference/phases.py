"""How much a prediction depends on where its windows lie.

Attention spans the whole window, so no margin makes a base blind to its window's ends: the
difference is measured, not assumed.
"""

import copy
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import UInt8

from alphaecoli.errors import DataError
from alphaecoli.inference.predictor import Predictor, Progress
from alphaecoli.inference.tiling import check_margin
from alphaecoli.schema import BIN_BP

# Quantiles of the absolute difference that are reported; the last one is the largest difference.
QUANTILES = (0.5, 0.99, 1.0)


def at_margin(predictor: Predictor, margin_bp: int) -> Predictor:
  """The same compiled model with another margin.

  Raises:
    ConfigError: the margin is not possible.
  """
  check_margin(margin_bp, predictor.window_bp)
  other = copy.copy(predictor)
  other.margin_bp = margin_bp
  return other


def phases(predictor: Predictor, count: int) -> list[int]:
  """Shifts of the windows, spread evenly over the part kept of each; whole bins, 0 not among them.

  Windows repeat after `window - 2 * margin`: there is no other phase than those from 0 to there.
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
  """Absolute differences between the prediction of a ring and those with shifted windows.

  Args:
    predictor: with the margin in question.
    codes: read as a ring; a multiple of 128 long, so that bins fit at every phase.
    shifts: multiples of 128.
    progress: called with bases done.

  Returns:
    For each trained head the quantiles `QUANTILES` over all bases (or bins), tracks and shifts;
    1.0 is the largest. Expression in ln(1 + TPM), density in genes per bin, operon membership as
    probability.

  Raises:
    DataError: the length is not a multiple of 128.
  """
  if len(codes) % BIN_BP:
    raise DataError(f"a ring of {len(codes)} bp; expected a multiple of {BIN_BP}")
  first = predictor.predict(codes, circular=True, progress=progress)
  found: dict[str, list[np.ndarray]] = {head: [] for head in predictor.trained_heads}
  for shift in shifts:
    turned = predictor.predict(np.roll(codes, -shift), circular=True, progress=progress)
    for head, values in found.items():
      rows = shift // BIN_BP if head == "gene_density" else shift
      back = np.roll(getattr(turned, head), rows, axis=0)
      values.append(np.abs(back - getattr(first, head)).ravel())
  return {head: _quantiles(values) for head, values in found.items()}


def _quantiles(values: Iterable[np.ndarray]) -> dict[float, float]:
  """Quantiles of all values; 0 where there are none (a single phase is possible)."""
  together = np.concatenate([np.zeros(1, np.float32), *values])
  return {q: float(np.quantile(together, q)) for q in QUANTILES}
