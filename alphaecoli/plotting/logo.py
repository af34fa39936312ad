"""Mutagenesis as a picture: a sequence logo over a map of all substitutions."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float32
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from alphaecoli.errors import DataError, reason_of
from alphaecoli.genomics.read import Element
from alphaecoli.variants.mutagenesis import BASES, SUBSTITUTIONS, Mutagenesis
from alphaecoli.variants.scores import CHANGE_UNITS

ROW_BP = 100  # bases in one row of the picture
# Okabe and Ito: told apart by the colour-blind.
COLOURS = {"A": "#009E73", "C": "#0072B2", "G": "#E69F00", "T": "#D55E00"}
ELEMENT = "#999999"
SHADES = "PuOr"
BOLD = FontProperties(family="DejaVu Sans", weight="bold")


def draw_logo(
  result: Mutagenesis, path: Path, channel: str, elements: Sequence[Element] = ()
) -> None:
  """Draws one channel of a mutagenesis; PNG, SVG or PDF by the name's ending.

  A letter's height says what the base does for the target: minus the mean effect of its three
  substitutions. Below it stands each substitution's effect. The target's strand is drawn 5' to 3'.

  Args:
    result: effects of all substitutions.
    path: file of the picture.
    channel: name of the effect to draw.
    elements: regions to draw as bars where they touch the region.

  Raises:
    DataError: the picture can not be written.
    ConfigError: no such channel.
  """
  view = _Strip(result, channel, elements)
  figure = _figure(view)
  try:
    figure.savefig(path, dpi=150, bbox_inches="tight")
  except (OSError, ValueError) as error:
    raise DataError(f"{path}: can not be written: {reason_of(error)}") from error
  finally:
    plt.close(figure)


class _Strip:
  """Letters, effects and bars of a picture, from left to right."""

  def __init__(self, result: Mutagenesis, channel: str, elements: Sequence[Element]):
    backwards = result.target.strand < 0
    order = slice(None, None, -1) if backwards else slice(None)
    number = result.channel(channel)
    changes = result.changes[:, :, number][order]
    self.effects = changes[:, ::-1] if backwards else changes
    codes = result.reference[order]
    codes = np.where(codes < 4, 3 - codes, codes) if backwards else codes
    self.letters = [(*BASES, "N")[code] for code in codes]
    self.heights: Float32[np.ndarray, " n"] = result.importance(channel)[order]
    self.positions = np.arange(result.start + 1, result.end + 1)[order]
    self.backwards = backwards
    self.units = CHANGE_UNITS[channel.partition(":")[0]]
    self.title = (
      f"{result.contig}:{result.start + 1:,}-{result.end:,}"
      f"{', minus strand' if backwards else ''}: effect on {result.target.name}, {channel}"
      f"{'' if result.method == SUBSTITUTIONS else f', estimated: {result.method}'}"
    )
    # Two contigs may share positions; a bar that only touches the region is cut.
    near = (e for e in elements if e.contig == result.contig)
    cut = [(e, max(e.start, result.start), min(e.end, result.end)) for e in near]
    self.bars = [
      (len(self.letters) - (end - result.start), len(self.letters) - (start - result.start), e.name)
      if backwards
      else (start - result.start, end - result.start, e.name)
      for e, start, end in cut
      if start < end
    ]


def _figure(view: _Strip) -> Figure:
  """Lays out rows of at most ROW_BP bases, each with elements, logo and map."""
  n_rows = -(-len(view.letters) // ROW_BP)
  across = -(-len(view.letters) // n_rows)
  lanes = _lanes(view.bars)
  tall = [max(lanes.values(), default=-1) * 0.16 + 0.25 if view.bars else 0.05, 1.5, 0.7, 0.35]
  figure = plt.figure(figsize=(max(across * 0.11, 4) + 1.6, sum(tall) * n_rows + 0.4))
  grid = figure.add_gridspec(4 * n_rows, 1, height_ratios=tall * n_rows, hspace=0.06)
  finite = view.effects[np.isfinite(view.effects)]
  most = max(float(np.abs(finite).max(initial=0)), 1e-9)
  norm = Normalize(-most, most)
  for row in range(n_rows):
    first, last = row * across, min((row + 1) * across, len(view.letters))
    bars, logo, heat = (figure.add_subplot(grid[4 * row + k]) for k in range(3))
    for axis in (bars, logo, heat):
      axis.set_xlim(first - 0.5, first + across - 0.5)
      axis.spines[["top", "right", "bottom", "left"]].set_visible(False)
      axis.set_xticks([])
    _draw_bars(bars, view, lanes, first, last)
    _draw_letters(logo, view, first, last)
    _draw_map(heat, view, first, last, norm)
  figure.axes[0].set_title(view.title, fontsize=9, loc="left")
  bar = figure.colorbar(
    ScalarMappable(norm, SHADES), ax=figure.axes, fraction=0.012, pad=0.01, aspect=30
  )
  bar.set_label(view.units, fontsize=7)
  bar.ax.tick_params(labelsize=6)
  return figure


def _lanes(bars: Sequence[tuple[int, int, str]]) -> dict[int, int]:
  """Chooses a lane for each bar, so that neither bars nor their names overlap."""
  ends: list[float] = []
  lanes: dict[int, int] = {}
  for number in sorted(range(len(bars)), key=lambda i: bars[i][0]):
    start, end, name = bars[number]
    room = max(end, start + 0.9 * len(name)) + 1
    lane = next((k for k, taken in enumerate(ends) if taken <= start), len(ends))
    ends[lane : lane + 1] = [room]
    lanes[number] = lane
  return lanes


def _draw_bars(axis: Axes, view: _Strip, lanes: dict[int, int], first: int, last: int) -> None:
  """Draws elements as bars with their names."""
  axis.set_yticks([])
  axis.set_ylim(max(lanes.values(), default=0) + 0.8, -0.8)
  for number, (start, end, name) in enumerate(view.bars):
    low, high = max(start, first), min(end, last)
    if low < high:
      axis.barh(lanes[number], high - low, 0.8, low - 0.5, color=ELEMENT, alpha=0.5, linewidth=0)
      axis.text(low - 0.3, lanes[number], name, fontsize=6, va="center", clip_on=True)


def _draw_letters(axis: Axes, view: _Strip, first: int, last: int) -> None:
  """Draws letters as high as their base is worth, below the line where it does harm."""
  heights = np.nan_to_num(view.heights)
  low, high = min(float(heights.min()), 0.0), max(float(heights.max()), 0.0)
  axis.set_ylim(low - 0.02 * (high - low + 1e-9), high + 0.02 * (high - low + 1e-9))
  outlines = {letter: _outline(letter) for letter in BASES}
  for letter, colour in COLOURS.items():
    paths = [
      outlines[letter].transformed(
        Affine2D().scale(0.94, abs(heights[i])).translate(i - 0.47, min(heights[i], 0.0))
      )
      for i in range(first, last)
      if view.letters[i] == letter and heights[i]
    ]
    axis.add_collection(PathCollection(paths, facecolors=colour, edgecolors="none"))
  axis.axhline(0, color="black", linewidth=0.5)
  axis.set_ylabel(f"−mean over substitutions,\n{view.units}", fontsize=6)
  axis.tick_params(labelsize=6)
  axis.spines["left"].set_visible(True)


def _outline(letter: str) -> Outline:
  """Outlines a letter that fills the unit square."""
  path = TextPath((0, 0), letter, size=1, prop=BOLD)
  box = path.get_extents()
  return path.transformed(
    Affine2D().translate(-box.x0, -box.y0).scale(1 / box.width, 1 / box.height)
  )


def _draw_map(axis: Axes, view: _Strip, first: int, last: int, norm: Normalize) -> None:
  """Draws every substitution's effect; a dot marks the reference base."""
  axis.imshow(
    view.effects[first:last].T,
    aspect="auto",
    cmap=SHADES,
    norm=norm,
    extent=(first - 0.5, last - 0.5, 3.5, -0.5),
    interpolation="nearest",
  )
  reference = [
    (i, BASES.index(view.letters[i])) for i in range(first, last) if view.letters[i] != "N"
  ]
  if reference:
    axis.scatter(*zip(*reference, strict=True), s=1.5, color="black", linewidths=0)
  axis.set_yticks(range(4), list(BASES), fontsize=6)
  axis.tick_params(length=0, axis="y")
  ticks = [i for i in range(first, last) if view.positions[i] % 10 == 0]
  axis.set_xticks(ticks, [f"{view.positions[i]:,}" for i in ticks], fontsize=6)
