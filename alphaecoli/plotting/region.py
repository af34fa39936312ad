"""A region of the chromosome as a picture: genes, operons, observed and predicted tracks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrow, Patch

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.inference.prediction import Prediction
from alphaecoli.plotting.observed import (
  Observed,
  marked_operons,
  operon_label,
  read_observed,
  split_words,
)
from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.store import TrackStore
from alphaecoli.variants.polar import EditEffect
from alphaecoli.variants.scores import within_grid_shift

# Okabe and Ito, Color Universal Design (2008): distinct for all kinds of colour vision.
OBSERVED = "#7F7F7F"
PREDICTED = "#0072B2"
FORWARD, REVERSE = "#E69F00", "#56B4E9"
OPERON = "#000000"
RULE = "#D55E00"
MOST_PANELS = 12  # edits in one picture


def plot_region(
  store: TrackStore,
  prediction: Prediction,
  start: int,
  end: int,
  path: Path,
  *,
  track: str | None = None,
  title: str = "",
) -> None:
  """Draws a region as a PNG: genes and operons, then the three tracks, observed and predicted.

  Args:
    store: observed tracks and genes.
    prediction: tracks of the region or more of the same chromosome.
    start: first base.
    end: base after the last one.
    path: file of the PNG.
    track: name of the expression track; the first by default.
    title: organism or contig, put before the coordinates.

  Raises:
    ConfigError: no such track, or the prediction does not cover the region.
    DataError: the file can not be written.
  """
  names = store.table.names
  if track is not None and track not in names:
    raise ConfigError(f"track {track!r} is not in the store; it has {', '.join(names)}")
  if not prediction.start <= start < end <= prediction.end:
    raise ConfigError(
      f"the prediction covers {prediction.start}-{prediction.end}, not all of {start}-{end}"
    )
  column = names.index(track) if track is not None else 0
  observed = read_observed(store, start, end)
  figure, axes = plt.subplots(
    4,
    1,
    figsize=(14, 9.5),
    sharex=True,
    height_ratios=(1.5, 1.5, 1, 1),
    layout="constrained",
  )
  try:
    _draw_genes(axes[0], store, start, end)
    _draw_expression(axes[1], store, observed, prediction, column, (start, end))
    _draw_density(axes[2], observed, prediction, (start, end))
    _draw_operons(axes[3], observed, prediction, (start, end))
    _dress(figure, list(axes), start, end)
    figure.suptitle(
      f"{title + ', ' if title else ''}{start / 1000:,.1f} to {end / 1000:,.1f} kb "
      f"({split_words(store, start, end)})",
      fontsize=13,
    )
    _save(figure, path)
  finally:
    plt.close(figure)


def plot_edits(found: Sequence[EditEffect], track: str, column: int, path: Path) -> None:
  """Draws what edits do to the genes of the operons that they touch, a panel an edit.

  Bars are what the model says, with the interval over an ensemble's members; pale ones are within
  the shift of the grid. Diamonds are what the rule of blocks says.

  Args:
    found: edits with genes, of which the first 12 are drawn; at least one.
    track: name of the expression track.
    column: its number.
    path: file of the picture.

  Raises:
    DataError: the file can not be written.
  """
  shown = found[:MOST_PANELS]
  widest = max(len(one.genes) for one in shown)
  size = (max(0.9 * widest + 1.6, 6), 2.3 * len(shown) + 0.6)
  figure, axes = plt.subplots(len(shown), 1, figsize=size, squeeze=False, layout="constrained")
  try:
    for axis, one in zip(axes[:, 0], shown, strict=True):
      _draw_edit(axis, one, column)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.supylabel(f"change of ln(1 + TPM), {track}", fontsize=9)
    _save(figure, path)
  finally:
    plt.close(figure)


def _draw_edit(axis: Axes, one: EditEffect, column: int) -> None:
  """Draws the genes of one edit, operon by operon in the order of transcription."""
  at = np.arange(len(one.genes))
  changes = np.array([gene.effect.change[column] for gene in one.genes])
  marked = [within_grid_shift(gene.effect.change, gene.effect.grid) for gene in one.genes]
  alphas = [0.35 if mark else 1.0 for mark in marked]
  for x, change, alpha in zip(at, changes, alphas, strict=True):
    axis.bar(x, change, 0.7, color=PREDICTED, alpha=alpha, edgecolor="black", linewidth=0.5)
  halves = [np.nan if gene.half is None else gene.half[column] for gene in one.genes]
  axis.errorbar(at, changes, yerr=halves, fmt="none", ecolor="black", capsize=3, linewidth=1)
  rules = [np.nan if gene.rule is None else gene.rule[column] for gene in one.genes]
  axis.plot(at, rules, "D", color=RULE, fillstyle="none", label="rule: transcription is blocked")
  axis.plot([], [], "s", color=PREDICTED, label="model")
  axis.axhline(0, color="black", linewidth=0.6)
  for x in at[1:]:  # between operons
    if one.genes[x].operon != one.genes[x - 1].operon:
      axis.axvline(x - 0.5, color="0.7", linewidth=0.8, linestyle=":")
  axis.set_xlim(-0.6, len(at) - 0.4)
  effects = [gene.effect for gene in one.genes]
  marks = ["gone" if e.share == 0 else "" if e.distance_bp else "here" for e in effects]
  names = [e.gene.name or e.gene.id for e in effects]
  labels = [f"{name}\n{mark}" for name, mark in zip(names, marks, strict=True)]
  axis.set_xticks(at, labels, fontsize=7, style="italic")
  where = one.edit.where
  place = f"{where.contig}:{where.start + 1:,}-{where.end:,}"
  axis.set_title(f"{one.edit.name}: {one.edit.kind}, {place}", fontsize=9, loc="left")
  axis.spines[["top", "right"]].set_visible(False)


def _draw_genes(axis: Axes, store: TrackStore, start: int, end: int) -> None:
  """Draws genes as arrows, forward above reverse; operons of several genes as bars on top."""
  genes = store.genes
  rows = np.flatnonzero((genes.start < end) & (genes.end > start))
  named: dict[float, list[float]] = {}  # height -> where there is a name
  for row in rows[np.argsort(genes.start[rows] - genes.end[rows], kind="stable")]:  # longest first
    forward = genes.strand[row] >= 0
    left, right = max(genes.start[row], start) / 1000, min(genes.end[row], end) / 1000
    y, middle = 0.62 if forward else 0.0, (left + right) / 2
    arrow = FancyArrow(
      left if forward else right,
      y,
      right - left if forward else left - right,
      0,
      width=0.22,
      head_width=0.34,
      head_length=min((end - start) / 120_000, right - left),
      length_includes_head=True,
      facecolor=FORWARD if forward else REVERSE,
      edgecolor="black",
      linewidth=0.5,
    )
    axis.add_patch(arrow)
    near = (end - start) / 75_000  # kb that a slanted name takes up
    if all(abs(middle - other) >= near for other in named.get(y, [])):
      named.setdefault(y, []).append(middle)
      slanted: dict[str, Any] = {
        "rotation": 45,
        "rotation_mode": "anchor",
        "ha": "right",
        "va": "top",
      }
      axis.text(middle, y - 0.22, str(genes.name[row]), fontsize=7, style="italic", **slanted)
  _draw_operon_bars(axis, store, start, end)
  axis.set_ylim(-0.75, 1.62)
  axis.set_yticks([1.12, 0.62, 0.0], ["operons", "genes +", "genes −"])
  axis.tick_params(axis="y", length=0)


def _draw_operon_bars(axis: Axes, store: TrackStore, start: int, end: int) -> None:
  """Draws a bar over each operon of several genes, with names at alternating heights."""
  genes = store.genes
  touching = [o for o in marked_operons(store) if o.start < end and o.end > start]
  for i, operon in enumerate(touching):
    left, right = max(operon.start, start) / 1000, min(operon.end, end) / 1000
    axis.plot([left, right], [1.12, 1.12], color=OPERON, linewidth=4, solid_capstyle="butt")
    ordered = operon.rows if genes.strand[operon.rows[0]] >= 0 else operon.rows[::-1]
    label = operon_label([str(genes.name[row]) for row in ordered])
    side = "left" if left * 1000 == start else "right" if right * 1000 == end else "center"
    x = {"left": left, "right": right, "center": (left + right) / 2}[side]
    style: dict[str, Any] = {"fontsize": 7, "style": "italic", "ha": side, "va": "bottom"}
    axis.text(x, 1.2 if i % 2 else 1.4, label, **style)


def _draw_expression(
  axis: Axes,
  store: TrackStore,
  observed: Observed,
  prediction: Prediction,
  column: int,
  bounds: tuple[int, int],
) -> None:
  """Draws ln(1 + TPM): measured on genes, predicted at every base."""
  predicted = prediction.in_units("log_tpm").gene_expression[:, column]
  kb = (observed.start + np.arange(len(observed.log_tpm))) / 1000
  values = observed.log_tpm[:, column]
  edges = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)  # NaN differs from everything
  lasts = np.append(edges[1:], len(values)) - 1
  axis.hlines(values[edges], kb[edges], kb[lasts], color=OBSERVED, linewidth=4)
  axis.plot(*_thinned(prediction, predicted, bounds), color=PREDICTED, linewidth=1.2)
  name = store.table.names[column]
  axis.set_ylabel(f"expression ({name})\nln(1 + TPM)")


def _draw_density(
  axis: Axes, observed: Observed, prediction: Prediction, bounds: tuple[int, int]
) -> None:
  """Draws genes per bin."""
  edges = (observed.start + BIN_BP * np.arange(len(observed.density) + 1)) / 1000
  axis.stairs(observed.density, edges, fill=True, color=OBSERVED, alpha=0.6)
  first = bounds[0] // BIN_BP - prediction.start // BIN_BP
  values = prediction.gene_density[first : first + len(observed.density), 0]
  axis.stairs(values, edges[: len(values) + 1], color=PREDICTED, linewidth=1.2, baseline=None)
  axis.set_ylim(bottom=0)
  axis.set_ylabel("gene density\ngenes / 128 bp")


def _draw_operons(
  axis: Axes, observed: Observed, prediction: Prediction, bounds: tuple[int, int]
) -> None:
  """Draws operon membership: observed shaded, predicted probability as a line."""
  kb = (observed.start + np.arange(len(observed.operon))) / 1000
  axis.fill_between(
    kb, 0, np.nan_to_num(observed.operon), step="post", color=OBSERVED, alpha=0.45, linewidth=0
  )
  values = _thinned(prediction, prediction.operon_membership[:, 0], bounds)
  axis.plot(*values, color=PREDICTED, linewidth=1.2)
  axis.set_ylim(0, 1.02)
  axis.set_ylabel("operon membership\nprobability")


def _thinned(
  prediction: Prediction,
  values: Float[np.ndarray, "S"],
  bounds: tuple[int, int],
  points: int = 2000,
) -> tuple[np.ndarray, np.ndarray]:
  """Computes means over equal steps, at most `points` of them, and their centres in kb."""
  step = max((bounds[1] - bounds[0]) // points, 1)
  part = values[bounds[0] - prediction.start : bounds[1] - prediction.start]
  part = part[: len(part) // step * step].reshape(-1, step)
  return (bounds[0] + step * (np.arange(len(part)) + 0.5)) / 1000, part.mean(axis=1)


def _dress(figure: Figure, axes: Sequence[Axes], start: int, end: int) -> None:
  """Sets limits, grid, legend outside the data."""
  axes[-1].set_xlim(start / 1000, end / 1000)
  axes[-1].set_xlabel("position on the chromosome (kb)")
  for axis in axes[1:]:
    axis.grid(axis="x", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
  for axis in axes:
    axis.spines[["top", "right"]].set_visible(False)
  figure.align_ylabels(axes)
  handles: list[Any] = [
    Patch(color=OBSERVED, label="observed"),
    plt.Line2D([], [], color=PREDICTED, linewidth=2, label="predicted from sequence"),
    Patch(facecolor=FORWARD, edgecolor="black", label="gene on + strand"),
    Patch(facecolor=REVERSE, edgecolor="black", label="gene on − strand"),
    Patch(color=OPERON, label="operon of several genes"),
  ]
  figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)


def _save(figure: Figure, path: Path) -> None:
  """Writes the PNG."""
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
  except OSError as error:
    raise DataError(f"{path}: can not be written: {error.strerror}") from error
