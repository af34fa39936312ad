"""The chromosome as the page holds it: genes, operons, observed tracks, predictions in 8 bits."""

import base64
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from alphaecoli.errors import ConfigError, nearest
from alphaecoli.genomics.intervals import Interval, StartEnd, merge, split_at_origin
from alphaecoli.inference.prediction import Prediction
from alphaecoli.plotting.observed import find_region, marked_operons, operon_label
from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.splits import SPLITS
from alphaecoli.tracks.store import TrackStore


@dataclasses.dataclass(frozen=True)
class Locus:
  """A region with a name: 0-based, half-open, within 0 to L."""

  label: str
  start: int
  end: int


COARSE_BP = 32  # of the whole chromosome, for heads that predict every base
DETAIL_VALUES = 3_000_000  # at most, per head: a byte each
UNKNOWN = 255  # code of NaN; 0 to 254 run from the lowest to the highest value
CHUNK_BINS = 8192  # read at once


def genome_view(
  store: TrackStore,
  prediction: Prediction | None,
  column: int,
  split: str,
  loci: Sequence[Locus],
) -> dict[str, Any]:
  """Collects everything the browser and the circular overview show.

  Args:
    store: observed tracks and genes.
    prediction: tracks of the whole chromosome, expression in log TPM; None without a checkpoint.
    column: index of the expression track.
    split: split whose regions are kept at full resolution.
    loci: regions kept at full resolution, too.

  Returns:
    An object for JSON; positions are 0-based, intervals half-open and within 0 to L.
  """
  detail = merge([*_regions(store, split), *((locus.start, locus.end) for locus in loci)])
  return {
    "contig": store.contig,
    "length_bp": store.length_bp,
    "circular": store.circular,
    "track": store.table.names[column],
    "has_expression": store.table.has_expression,
    "has_operons": store.table.has_operons,
    "splits": {name: merge(_regions(store, name)) for name in SPLITS},
    "detail": detail,
    "loci": [{"label": x.label, "start": x.start, "end": x.end} for x in loci],
    "genes": _genes(store, prediction, column),
    "operons": _operons(store),
    "observed": _observed(store, column),
    "predicted": {} if prediction is None else _predicted(prediction, column, detail),
  }


def _regions(store: TrackStore, split: str) -> list[StartEnd]:
  """Returns the regions of a split; one that passes the origin in two."""
  return split_at_origin(store.regions(split), store.length_bp)


def _genes(store: TrackStore, prediction: Prediction | None, column: int) -> dict[str, Any]:
  """Makes columns over all genes: place, operon, observed and predicted expression (log TPM)."""
  genes = store.genes
  fragments = [split_at_origin(parts, store.length_bp) for parts in genes.fragments]
  columns: dict[str, Any] = {
    "name": [str(v) for v in genes.name],
    "tag": [str(v) for v in genes.locus_tag],
    "start": genes.start.tolist(),
    "end": genes.end.tolist(),
    "strand": genes.strand.tolist(),
    "split": [str(v) for v in genes.split],
    "operon": [str(v) for v in genes.operon_id],
    "observed": _rounded(genes.log_tpm[:, column], 3),
    "fragments": {str(i): parts for i, parts in enumerate(fragments) if len(parts) > 1},
  }
  if prediction is not None:
    expression = prediction.gene_expression[:, column]
    operon = prediction.operon_membership[:, 0]
    columns["predicted"] = _rounded(_means(expression, fragments), 3)
    columns["probability"] = _rounded(_means(operon, fragments), 3)
  return columns


def _means(
  values: Float32[np.ndarray, "L"], fragments: Sequence[Sequence[tuple[int, int]]]
) -> Float[np.ndarray, "G"]:
  """Computes the mean over each gene's bases."""
  means = [
    np.concatenate([values[start:end] for start, end in parts]).mean(dtype=np.float64)
    for parts in fragments
  ]
  return np.array(means, np.float64)


def _operons(store: TrackStore) -> list[dict[str, Any]]:
  """Lists operons of several genes, with a short name in the order of transcription."""
  genes, found = store.genes, []
  for operon in marked_operons(store):
    forward = genes.strand[operon.rows[0]] >= 0
    rows = operon.rows if forward else operon.rows[::-1]
    label = operon_label([str(genes.name[row]) for row in rows])
    for start, end in split_at_origin([(operon.start, operon.end)], store.length_bp):
      found.append({"start": start, "end": end, "label": label, "genes": len(rows)})
  return found


def _observed(store: TrackStore, column: int) -> dict[str, Any]:
  """Encodes expression and operon membership as runs of equal values, density as codes of bins."""
  track = store.table.expression[column]
  values, starts, ends = _runs(store.gene_expression[:, column] * track.std + track.mean)
  mask = ~np.isnan(values)
  member, first_bases, last_bases = _runs(store.operon_membership.astype(np.float32))
  inside = (member == 1) & store.table.has_operons
  return {
    "expression": {
      "start": starts[mask].tolist(),
      "end": ends[mask].tolist(),
      "value": _rounded(values[mask], 3),
    },
    "density": _layer([(0, BIN_BP, _density(store))]),
    "operon": np.stack([first_bases[inside], last_bases[inside]], axis=1).tolist(),
  }


def _density(store: TrackStore) -> Float32[np.ndarray, "N"]:
  """Reads genes per bin; NaN for what is left of a linear contig after its last whole bin."""
  bins = -(-store.length_bp // BIN_BP)
  density = np.full(bins, np.nan, np.float32)
  whole = bins if store.circular else store.length_bp // BIN_BP
  chunk = min(CHUNK_BINS, store.length_bp // BIN_BP)  # no window is longer than the chromosome
  for first in range(0, whole, chunk):
    n = min(chunk, whole - first)
    density[first : first + n] = store.window(first * BIN_BP, n * BIN_BP)["gene_density"][:, 0]
  return density


def _runs(
  values: Float32[np.ndarray, "L"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Finds runs of one value: the value, the first base, the base after the last."""
  same = (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
  starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
  return values[starts], starts, np.append(starts[1:], len(values))


def _predicted(
  prediction: Prediction, column: int, detail: Sequence[tuple[int, int]]
) -> dict[str, Any]:
  """Encodes the heads that were trained, whole at reduced and the detail at full resolution."""
  heads = {
    "expression": (prediction.gene_expression[:, column], 1),
    "density": (prediction.gene_density[:, 0], BIN_BP),
    "operon": (prediction.operon_membership[:, 0], 1),
  }
  layers = {}
  for name, (values, step) in heads.items():
    if np.isnan(values).all():
      continue  # this head was not trained
    parts = [(0, step, values)] if step > 1 else [(0, COARSE_BP, binned(values, COARSE_BP))]
    if step == 1:
      fine = detail_step(detail)
      for start, end in detail if fine < COARSE_BP else ():
        parts.append((start, fine, binned(values[start:end], fine)))
    layers[name] = _layer(parts)
  return layers


def detail_step(detail: Sequence[tuple[int, int]]) -> int:
  """Chooses the bases per value of the detail: 1, or a power of 2 that keeps the page small."""
  total, step = sum(end - start for start, end in detail), 1
  while total / step > DETAIL_VALUES:
    step *= 2
  return step


def binned(values: Float32[np.ndarray, "S"], step: int) -> Float32[np.ndarray, "n"]:
  """Computes means over steps; the last step may be shorter."""
  firsts = np.arange(0, len(values), step)
  sums = np.add.reduceat(values.astype(np.float64), firsts)
  return (sums / np.diff(np.append(firsts, len(values)))).astype(np.float32)


def _layer(parts: Sequence[tuple[int, int, np.ndarray]]) -> dict[str, Any]:
  """Encodes segments (start, step, values) as codes of one scale, in base64."""
  low = float(min(np.nanmin(values) for _, _, values in parts))
  high = float(max(np.nanmax(values) for _, _, values in parts))
  return {
    "low": low,
    "high": high,
    "segments": [
      {
        "start": start,
        "step": step,
        "codes": base64.b64encode(quantise(values, low, high).tobytes()).decode("ascii"),
      }
      for start, step, values in parts
    ],
  }


def quantise(values: Float32[np.ndarray, "n"], low: float, high: float) -> UInt8[np.ndarray, "n"]:
  """Converts to codes 0 (low) to 254 (high), 255 where the value is NaN."""
  scale = (UNKNOWN - 1) / (high - low) if high > low else 0.0
  mask = ~np.isnan(values)
  codes = np.rint((np.where(mask, values, low) - low) * scale)
  return np.where(mask, codes, UNKNOWN).astype(np.uint8)


def _rounded(values: np.ndarray, digits: int) -> list[float | None]:
  """Rounds values for JSON: null for NaN."""
  return [None if np.isnan(v) else round(float(v), digits) for v in values]


MIN_WIDTH_BP = 20_000  # around a gene


def choose_loci(store: TrackStore, text: str | None, split: str) -> list[Locus]:
  """Chooses the loci of the page.

  Args:
    store: store of the chromosome.
    text: genes, locus tags or contig:start-end (1-based, inclusive), with commas between; by
      default the region of the split that `alphaecoli.plot` would draw.
    split: name of the split to choose from.

  Raises:
    ConfigError: something that is no gene and no region of this chromosome.
  """
  if text is None:
    region = find_region(store, split)
    return [Locus(f"a region of the {split} split", *region)] if region else []
  return [_locus(store, part) for part in (p.strip() for p in text.split(",")) if part]


def _locus(store: TrackStore, text: str) -> Locus:
  """Finds one name or region."""
  if ":" in text:
    contig, start, end = Interval.parse(text)
    if contig != store.contig or end > store.length_bp:
      raise ConfigError(f"--loci {text}: expected a region of {store.contig}:1-{store.length_bp}")
    return Locus(text, start, end)
  genes = store.genes
  columns = (genes.name, genes.locus_tag, genes.gene_id)
  for column in columns:
    rows = np.flatnonzero(np.char.lower(column) == text.lower())
    if len(rows):
      return _around(store, int(rows[0]))
  near = nearest(text, genes.name.tolist(), similarity=0.6)
  hint = f"; did you mean {near}?" if near else ""
  raise ConfigError(
    f"--loci {text}: no gene of that name, locus tag or id, and no {store.contig}:start-end{hint}"
  )


def _around(store: TrackStore, row: int) -> Locus:
  """Finds the region of a gene, its operon and their surroundings."""
  genes = store.genes
  start, end = int(genes.start[row]), int(genes.end[row])
  for operon in marked_operons(store):
    if row in operon.rows:
      start, end = operon.start, operon.end
  width = min(max(end - start + MIN_WIDTH_BP // 2, MIN_WIDTH_BP), store.length_bp)
  first = min(max((start + end - width) // 2, 0), store.length_bp - width)
  return Locus(str(genes.name[row]) or str(genes.locus_tag[row]), first, first + width)
