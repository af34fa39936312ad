"""What each base of a region is worth to a target, by gradients instead of substitutions."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int, UInt8

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.sequence import UNKNOWN, Contig
from alphaecoli.inference.arguments import AnnotatedGenome
from alphaecoli.inference.prediction import spread_of
from alphaecoli.inference.predictor import Predictor
from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.track_table import TrackTable
from alphaecoli.variants.mutagenesis import (
  GRADIENT,
  INTEGRATED,
  Mutagenesis,
  Target,
  mutagenesis,
  place,
)
from alphaecoli.variants.scores import channels, mean_of, mean_over

STEPS = 16  # of the path of integrated gradients
_EVEN = 0.25  # a base that may be any of the four


def attribution(
  predictor: Predictor,
  contig: Contig,
  start: int,
  end: int,
  target: Target,
  *,
  method: str = GRADIENT,
  steps: int = STEPS,
  reverse_complement: bool = False,
) -> Mutagenesis:
  """Estimates the effect of every substitution in a region from gradients by its one-hot bases.

  The estimate of a substitution is the gradient by the new base minus that by the reference's, so
  that nothing is left of what all four letters share: the simplex correction (Majdandzic et al.,
  Genome Biology 24:109, 2023). The gradient is that at the sequence, or its mean along the straight
  path to it from a region whose bases are a quarter of each letter (Sundararajan et al., Axiomatic
  attribution for deep networks, ICML 2017); three quarters of all `importance` then add up to what
  the region does for the target beyond such a region, but for the error of the steps.

  Args:
    predictor: model to ask.
    contig: contig of the region; one of unknown topology counts as linear.
    start: first base of the region, 0-based; it may pass the origin of a circular contig.
    end: base after the region's last one.
    target: bases on which the effect is measured.
    method: gradient or integrated.
    steps: places on the path at which integrated gradients are taken.
    reverse_complement: whether to average both strands: twice the work.

  Raises:
    ConfigError: as `mutagenesis`; members of an ensemble with different windows; no such method.
  """
  if method not in (GRADIENT, INTEGRATED) or steps < 1:
    raise ConfigError(
      f"method={method!r} with steps={steps}; expected {GRADIENT} or {INTEGRATED}, at least 1 step"
    )
  view, rows = place(predictor.window_bp, contig, start, end, target)
  window = predictor.cut(contig.codes, view.first, view.circular)
  outputs = next(predictor.run_members(iter([(None, window)]), reverse_complement))[1]
  values = [mean_over(channels(o, predictor.table, predictor.window_bp), rows) for o in outputs]
  # A circular contig shorter than the window shows a base several times.
  offset = np.arange(view.window_bp) + view.first - start
  offset = offset % contig.length_bp if view.circular else offset
  inside = (offset >= 0) & (offset < end - start)
  bases = np.eye(UNKNOWN + 1, 4, dtype=np.float32)[window]
  path = (np.arange(steps) + 0.5) / steps if method == INTEGRATED else np.ones(1)
  mixed = np.repeat(bases[None], len(path), axis=0)
  mixed[:, inside] = _EVEN + path[:, None, None] * (bases[inside] - _EVEN)
  reference = contig.codes.take(np.arange(start, end), mode="wrap")
  each = []
  for member in predictor.members or (predictor,):
    found = np.full((end - start, 4, len(member.table.names) + 2), np.nan, np.float32)
    for channel, weights in _weights(member, rows, len(path)):
      slope = member.gradients(mixed, weights, reverse_complement).mean(axis=0, dtype=np.float64)
      total = np.zeros((end - start, 4))
      np.add.at(total, offset[inside], slope[inside])
      found[:, :, channel] = _by_substitution(total, reference)
    each.append(found)
  return Mutagenesis(
    contig=contig.name,
    length_bp=contig.length_bp,
    start=start,
    reference=reference,
    changes=mean_of(each),
    baseline=mean_of(values),
    target=target,
    target_share=len(rows) / len(target.positions),
    window=(view.first, view.first + view.window_bp),
    table=predictor.table,
    spread=spread_of(each) if predictor.has_spread else None,
    method=method,
  )


def _weights(
  member: Predictor, rows: Int[np.ndarray, " m"], windows: int
) -> Iterator[tuple[int, dict[str, Float32[np.ndarray, "B _R _T"]]]]:
  """Yields, for each channel of trained heads, the weights that make the mean over the target."""
  table: TrackTable = member.table
  place_of = np.zeros(member.window_bp, np.float32)
  np.add.at(place_of, rows, np.float32(1 / len(rows)))
  bins = place_of.reshape(-1, BIN_BP).sum(axis=1)
  n = len(table.names)
  heads: dict[str, tuple[np.ndarray, list[float]]] = {
    "gene_expression": (place_of, [track.std for track in table.expression]),
    "gene_density": (bins, [1.0]),
    "operon_membership": (place_of, [1.0]),
  }
  firsts = dict(zip(heads, (0, n, n + 1), strict=True))
  for name, (by_row, scales) in heads.items():
    for column, scale in enumerate(scales) if name in member.trained_heads else ():
      weights = {
        other: np.zeros((windows, len(rows_of), len(of)), np.float32)
        for other, (rows_of, of) in heads.items()
        if other in member.trained_heads
      }
      weights[name][:, :, column] = scale * by_row
      yield firsts[name] + column, weights


def _by_substitution(
  slope: Float64[np.ndarray, "n 4"], reference: UInt8[np.ndarray, " n"]
) -> Float64[np.ndarray, "n 4"]:
  """Subtracts the reference base's gradient from all; NaN where the base is unknown."""
  own = slope[np.arange(len(slope)), np.minimum(reference, 3)]
  return np.where((reference < UNKNOWN)[:, None], slope - own[:, None], np.nan)


def promoters(
  genome: AnnotatedGenome, upstream_bp: int, count: int, seed: int = 0
) -> list[tuple[Gene, int, int]]:
  """Draws genes with so many bases before them that lie in no gene, and these bases.

  Raises:
    DataError: there are fewer such genes.
  """
  found = []
  for name, features in genome.features.items():
    taken = np.zeros(genome[name].length_bp, bool)
    for gene in features.genes:
      taken[gene.bases(len(taken))] = True
    for gene in features.genes:
      start = gene.end if gene.strand < 0 else gene.start - upstream_bp
      fits = gene.strand and start >= 0 and start + upstream_bp <= len(taken)
      if fits and not taken[start : start + upstream_bp].any():
        found.append((gene, start, start + upstream_bp))
  if len(found) < count:
    raise DataError(
      f"{len(found)} genes have {upstream_bp} bp before them that lie in no gene; expected {count}"
    )
  chosen = np.random.default_rng(seed).choice(len(found), count, replace=False)
  return [found[number] for number in sorted(chosen.tolist())]


def agreement(
  predictor: Predictor,
  genome: AnnotatedGenome,
  regions: list[tuple[Gene, int, int]],
  channel: str,
  reverse_complement: bool = False,
) -> Iterator[dict[str, Any]]:
  """Correlates, region by region, gradients with in-silico mutagenesis.

  Yields:
    The gene, its region (1-based), the seconds of mutagenesis, and by method the seconds, and
    Pearson's correlation of the importance of bases and of the effects of substitutions. The first
    region's seconds hold the compilation.
  """
  for gene, start, end in regions:
    contig = genome[gene.contig]
    target = Target(gene.name or gene.id, gene.bases(contig.length_bp), gene.strand)
    asked = (predictor, contig, start, end, target)
    began = time.perf_counter()
    truth = mutagenesis(*asked, reverse_complement=reverse_complement)
    row: dict[str, Any] = {"gene": target.name, "contig": contig.name}
    row |= {"start": start + 1, "end": end, "substitutions_s": time.perf_counter() - began}
    for method in (GRADIENT, INTEGRATED):
      began = time.perf_counter()
      other = attribution(*asked, method=method, reverse_complement=reverse_complement)
      row[f"{method}_s"] = time.perf_counter() - began
      number = truth.channel(channel)
      changed = ~np.isnan(truth.changes[:, :, number]) & (truth.changes[:, :, number] != 0)
      pairs = {
        "bases": (truth.importance(channel), other.importance(channel)),
        "substitutions": (truth.changes[changed][:, number], other.changes[changed][:, number]),
      }
      for what, (ours, theirs) in pairs.items():
        known = ~np.isnan(ours)
        row[f"{method}_{what}"] = float(np.corrcoef(ours[known], theirs[known])[0, 1])
    yield row
