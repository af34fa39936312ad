"""A model with a known, small receptive field, and its brute-force answer on whole contigs."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from alphaecoli.api import Predictor
from alphaecoli.tracks.track_table import ExpressionTrack, TrackTable

WINDOW_BP = 2048
REACH_BP = 500  # bases on either side that an output depends on: 128 + its bin and neighbours
BASE_VALUE = np.array([0.3, -1.1, 0.7, 1.9, 0.0])  # 4 and padding count nothing

TABLE = TrackTable(
  expression=(
    ExpressionTrack("heat/+", "+", ("a",), 3.0, 2.0),
    ExpressionTrack("heat/-", "-", ("a",), 2.0, 0.5),
  ),
  density_mean=1.0,
  operon_prevalence=0.5,
  has_expression=True,
  has_operons=True,
)


def raw_tracks(codes: np.ndarray) -> dict[str, np.ndarray]:
  """The stand-in model on one sequence whose length is a multiple of 128.

  A lopsided filter: positions, directions and strands can not be mistaken for one another.
  """
  value = BASE_VALUE[codes]
  padded = np.pad(value, 200)
  at = lambda shift: padded[200 + shift : 200 + shift + len(value)]  # noqa: E731
  plus = value + 0.5 * at(-3) - 0.25 * at(137)
  minus = 0.1 * at(190) + value**2
  bins = np.abs(value).reshape(-1, 128).sum(axis=1)
  around = np.pad(bins, 1)
  density = bins + 0.5 * around[:-2] - 0.2 * around[2:]
  operon = np.tanh(0.3 * at(-200) + 0.1 * at(5) + 0.01 * np.repeat(bins, 128)) / 2 + 0.5
  return {
    "gene_expression": np.stack([plus, minus], axis=1),
    "gene_density": density[:, None],
    "operon_membership": operon[:, None],
  }


class StandIn:
  """Counts its calls, and insists on one batch shape as a compiled model would."""

  n_devices = 1

  def __init__(self, batch_windows: int):
    self.shape = (batch_windows, WINDOW_BP)
    self.calls = 0

  def __call__(self, windows: np.ndarray, both: bool) -> dict[str, Any]:
    assert windows.shape == self.shape
    self.calls += 1
    rows = [raw_tracks(row) for row in windows]
    return {name: np.stack([row[name] for row in rows]).astype(np.float32) for name in rows[0]}

  def stretches(
    self, codes: np.ndarray, both: bool, tower_bp: tuple[int, int]
  ) -> dict[str, np.ndarray]:
    """Window by window; what one keeps replaces what the one before has there."""
    window_bp, margin_bp = tower_bp
    starts = range(0, codes.shape[1] - window_bp + 1, window_bp - 2 * margin_bp)
    assert starts[-1] + window_bp == codes.shape[1]
    found: dict[str, np.ndarray] = {}
    for row, start in itertools.product(range(len(codes)), starts):
      window = codes[row, start : start + window_bp]
      outputs = self(np.broadcast_to(window, self.shape), both)
      dropped = margin_bp if start else 0
      for name, values in outputs.items():
        bp = window_bp // values.shape[1]
        shape = len(codes), codes.shape[1] // bp, values.shape[2]
        kept = found.setdefault(name, np.zeros(shape, np.float32))[row]
        kept[(start + dropped) // bp : (start + window_bp) // bp] = values[0, dropped // bp :]
    return found

  def embed(self, windows: np.ndarray) -> dict[str, Any]:
    """Each base's code and place in the window, and their sums over bins and pairs."""
    assert windows.shape == self.shape
    one_bp = np.stack([windows, np.indices(windows.shape)[1]], axis=-1).astype(np.float32)
    rows, length = windows.shape
    bins = one_bp.reshape(rows, length // 128, 128, 2).sum(axis=2)
    pairs = one_bp.reshape(rows, length // 2048, 2048, 2).sum(axis=2)
    return {"one_bp": one_bp, "bins": bins, "pair": pairs[:, :, None] - pairs[:, None] / 2}

  def gradient(self, bases: np.ndarray, weights: dict[str, np.ndarray], both: bool) -> Any:
    """None: numpy does not differentiate."""
    raise NotImplementedError


class KnowingStandIn(StandIn):
  """Knows the gene structure and the junctions of contigs, and finds windows by their middle."""

  def __init__(self, batch_windows: int, contigs: Sequence[tuple[np.ndarray, np.ndarray]]):
    """Contigs: codes and probabilities, (L, 10): of structure, then of junctions."""
    super().__init__(batch_windows)
    self.contigs = [(codes, codes.tobytes() * 2, known) for codes, known in contigs]

  def __call__(self, windows: np.ndarray, both: bool) -> dict[str, Any]:
    rows = np.stack([self._known(row) for row in windows]).astype(np.float32)
    known = {"gene_structure": rows[..., :8], "operon_junction": rows[..., 8:]}
    return super().__call__(windows, both) | known

  def _known(self, window: np.ndarray) -> np.ndarray:
    middle = window[WINDOW_BP // 2 :][:64]
    for codes, twice, known in self.contigs:
      at = twice.find(middle.tobytes())
      if at >= 0 and (middle < 4).all():
        return known[np.arange(at - WINDOW_BP // 2, at + WINDOW_BP // 2) % len(codes)]
    return np.zeros((WINDOW_BP, 10))


def predictor(batch_windows: int = 3, margin_bp: int | None = 512, **options: Any) -> Predictor:
  return Predictor(
    StandIn(batch_windows),
    TABLE,
    about=options.pop("about", {"checkpoint": "C"}),
    window_bp=WINDOW_BP,
    margin_bp=margin_bp,
    batch_windows=batch_windows,
    **options,
  )


def whole_contig(codes: np.ndarray, circular: bool) -> dict[str, np.ndarray]:
  """The stand-in model on a whole contig at once, without tiles; in one window it is repeated."""
  length = len(codes)
  bins = -(-length // 128)
  flank = 8 * 128
  positions = np.arange(-flank, bins * 128 + flank)
  if circular or length < WINDOW_BP:
    window = codes[positions % length]
  else:
    inside = (positions >= 0) & (positions < length)
    window = np.where(inside, codes[np.clip(positions, 0, length - 1)], 4)
  tracks = raw_tracks(window)
  keep = slice(flank, flank + length)
  return {
    "gene_expression": tracks["gene_expression"][keep],
    "gene_density": tracks["gene_density"][8 : 8 + bins],
    "operon_membership": tracks["operon_membership"][keep],
  }


def random_codes(length: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 5, length).astype(np.uint8)
