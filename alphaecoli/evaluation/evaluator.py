"""Held-out figures of merit beside baselines on the same bases. Definitions: docs/evaluation.md."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh
from scipy import special

from alphaecoli.data.pipeline import evaluation_batches
from alphaecoli.evaluation import metrics
from alphaecoli.evaluation.gene_values import gene_columns, pair_columns
from alphaecoli.evaluation.results import Figure, Predictions, Report
from alphaecoli.evaluation.split_arrays import Assembly, Layout, local_rows
from alphaecoli.model.functional import FunctionalModel, Values
from alphaecoli.parallel.batches import put_batch
from alphaecoli.parallel.sharding import batch_sharding
from alphaecoli.schema import HEADS, LossWeights
from alphaecoli.tracks.store import TrackStore
from alphaecoli.tracks.track_table import TrackTable

LOGGER = logging.getLogger("alphaecoli")
Batch = Mapping[str, np.ndarray]
Predict = Callable[[Batch], Mapping[str, Any]]
Metric1 = Callable[[Any, Any], float]


def evaluate(
  predict: Predict,
  store: TrackStore,
  split: str,
  *,
  window_bp: int,
  batch_windows: int,
  weights: LossWeights | None = None,
  process_index: int | None = None,
  process_count: int | None = None,
  contributes: bool = True,
  progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
  organism: int = 0,
) -> Report:
  """Measures a model on a split, every base once, in one pass.

  Every process of a run calls this; each predicts its share of the windows, and all return the
  same report.

  Args:
    predict: maps a batch (docs/data.md, a leading axis of this process's windows) to raw outputs:
      z-scores, densities and operon logits. Outputs are numpy or jax arrays, of
      this process's windows or global.
    store: the targets.
    split: train, validation or test.
    window_bp: bases a window.
    batch_windows: windows at once over all processes.
    weights: of the losses in loss/total, 1 by default; a head with weight 0 is switched off and
      has no figures.
    process_index: of this process; by default jax's. Where several processes hold the same windows
      (`sharding.window_shard`), of their part.
    process_count: likewise.
    contributes: False in all but one of the processes that hold the same windows.
    progress: wraps the batches, for a progress bar.
    organism: the store's row of the organism embedding.

  Raises:
    UserError: a prediction is not finite.
  """
  index = jax.process_index() if process_index is None else process_index
  count = jax.process_count() if process_count is None else process_count
  assembly = assemble(
    predict,
    store,
    split,
    window_bp=window_bp,
    batch_windows=batch_windows,
    process_index=index,
    process_count=count,
    progress=progress,
    organism=organism,
  )
  if count > 1:
    assembly.gather(contributes)
  return summarise(assembly, store, split, weights)


def assemble(
  predict: Predict,
  store: TrackStore,
  split: str,
  *,
  window_bp: int,
  batch_windows: int,
  process_index: int = 0,
  process_count: int = 1,
  progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
  organism: int = 0,
) -> Assembly:
  """Predicts one process's share of a split. Arguments: see `evaluate`."""
  layout = Layout(tuple((int(a), int(b)) for a, b in store.regions(split)), store.length_bp)
  assembly = Assembly(layout, len(store.table.expression))
  with evaluation_batches(
    store,
    split,
    window_bp=window_bp,
    batch_windows=batch_windows,
    process_index=process_index,
    process_count=process_count,
    organism=organism,
  ) as batches:
    pending: tuple[Batch, Mapping[str, Any]] | None = None  # computed while the next is prepared
    for batch in batches if progress is None else progress(batches):
      ahead = batch, predict(batch)
      if pending is not None:
        _add(assembly, *pending, process_index)
      pending = ahead
    if pending is not None:
      _add(assembly, *pending, process_index)
  return assembly


def _add(assembly: Assembly, batch: Batch, outputs: Mapping[str, Any], process_index: int) -> None:
  """Waits for the outputs of a batch and enters this process's rows."""
  rows = len(batch["start"])
  local = {h: local_rows(outputs[h], process_index, rows) for h in HEADS if h in outputs}
  assembly.add(batch, local)


def summarise(
  assembly: Assembly, store: TrackStore, split: str, weights: LossWeights | None = None
) -> Report:
  """Computes the figures of an assembled split."""
  weights = LossWeights(*(1.0 for _ in HEADS)) if weights is None else weights
  skipped = _skipped(assembly, store.table, weights)
  for head, why in skipped.items():
    _say_once(f"{head} is not evaluated: {why}")
  genes = gene_columns(assembly, store)
  pairs = pair_columns(assembly, genes)
  figures: list[Figure] = []
  losses: dict[str, Figure] = {}
  if "gene_expression" not in skipped:
    figures += _expression_figures(assembly, store.table, genes)
    losses["gene_expression"] = _expression_loss(assembly)
  if "gene_density" not in skipped:
    figures += _density_figures(assembly, store.table)
    losses["gene_density"] = dataclasses.replace(figures[-1], name="loss/gene_density")
  if "operon_membership" not in skipped:
    operon = _operon_figures(assembly, store.table, pairs)
    figures += operon[1:]
    losses["operon_membership"] = operon[0]
  figures += [*losses.values(), _total_loss(losses, weights, assembly.layout.n_bases)]
  predictions = Predictions(assembly.layout, assembly.predictions, assembly.targets, genes, pairs)
  return Report(split, assembly.layout.n_bases, tuple(figures), skipped, predictions)


@functools.cache
def _say_once(message: str) -> None:
  """Logs a message the first time it comes up."""
  LOGGER.warning(message)


def _skipped(assembly: Assembly, table: TrackTable, weights: LossWeights) -> dict[str, str]:
  """Heads without figures, and why."""
  reasons = {}
  for head in HEADS:
    if not table.has_targets(head):
      reasons[head] = "the track store has no such data"
    elif getattr(weights, head) == 0:
      reasons[head] = "its loss weight is 0"
    elif head not in assembly.heads:
      reasons[head] = "the model has no such head"
    elif np.isnan(assembly.targets[head]).all():
      reasons[head] = "the split has no known value"
  return reasons


def _known(assembly: Assembly, head: str, track: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Targets and predictions of one track where the target is known, float64."""
  target, prediction = assembly.targets[head][:, track], assembly.predictions[head][:, track]
  known = ~np.isnan(target)
  return target[known].astype(np.float64), prediction[known].astype(np.float64)


def _figure(
  name: str, metric: Metric1, target: Any, model: Any, baseline: Any, over: str
) -> Figure:
  """One metric of the model and of a baseline on the same targets."""
  baseline = np.broadcast_to(np.asarray(baseline, np.float64), np.shape(target))
  return Figure(name, metric(target, model), metric(target, baseline), len(target), over)


def _expression_figures(
  assembly: Assembly, table: TrackTable, genes: Mapping[str, np.ndarray]
) -> list[Figure]:
  """Over genes and over bases: of one track, or the mean over tracks and each by name."""
  over_genes = {"r2": metrics.r2, "pearson": metrics.pearson, "spearman": metrics.spearman}
  single = len(table.expression) == 1
  found: dict[str, list[Figure]] = {}
  for i, track in enumerate(table.names):
    suffix = "" if single else f"/{track}"
    target, model = genes["target_z"][:, i], genes["predicted_z"][:, i]
    known = ~np.isnan(target) & ~np.isnan(model)
    for key, metric in over_genes.items():
      name = f"gene_expression/genes_{key}"
      figure = _figure(name + suffix, metric, target[known], model[known], 0, "genes")
      found.setdefault(name, []).append(figure)
    name = "gene_expression/bases_r2"
    bases = _figure(name + suffix, metrics.r2, *_known(assembly, "gene_expression", i), 0, "bases")
    found.setdefault(name, []).append(bases)
  means = [figures[0] if single else _mean(name, figures) for name, figures in found.items()]
  return means if single else means + [f for figures in found.values() for f in figures]


def _mean(name: str, figures: list[Figure]) -> Figure:
  """The mean over the tracks where a figure is defined, with the number of values in them all."""
  model = [f.model for f in figures if np.isfinite(f.model)]
  baseline = [f.baseline for f in figures if np.isfinite(f.baseline)]
  return Figure(
    name,
    float(np.mean(model)) if model else metrics.NAN,
    float(np.mean(baseline)) if baseline else metrics.NAN,
    sum(f.n for f in figures),
    figures[0].over,
  )


def _expression_loss(assembly: Assembly) -> Figure:
  """Mean squared error over all known bases of all tracks."""
  known = ~np.isnan(assembly.targets["gene_expression"])
  target = assembly.targets["gene_expression"][known]
  model = assembly.predictions["gene_expression"][known]
  return _figure("loss/gene_expression", metrics.mse, target, model, 0, "bases")


def _density_figures(assembly: Assembly, table: TrackTable) -> list[Figure]:
  """Over bins; the last is the mean squared error."""
  target, model = _known(assembly, "gene_density")
  return [
    _figure(f"gene_density/{key}", metric, target, model, table.density_mean, "bins")
    for key, metric in {"r2": metrics.r2, "pearson": metrics.pearson, "mse": metrics.mse}.items()
  ]


def _operon_figures(
  assembly: Assembly, table: TrackTable, pairs: Mapping[str, np.ndarray]
) -> list[Figure]:
  """The loss first, then figures over bases, then over pairs of genes."""
  target, logit = _known(assembly, "operon_membership")
  probability = special.expit(logit)
  by_name = {
    "auroc": metrics.auroc,
    "auprc": metrics.auprc,
    "accuracy": metrics.accuracy,
    "f1": metrics.f1,
    "brier": metrics.brier,
    "calibration_error": metrics.calibration_error,
  }
  prior = table.operon_prevalence
  prior_logit = float(special.logit(prior))
  figures = [
    _figure("loss/operon_membership", metrics.cross_entropy, target, logit, prior_logit, "bases")
  ]
  for key, metric in by_name.items():
    name = f"operon_membership/{key}"
    figures.append(_figure(name, metric, target, probability, prior, "bases"))
  same, score, distance = pairs["same_operon"], pairs["probability"], pairs["distance_bp"]
  name = "operon_membership/pairs_auroc"
  figures.append(_figure(name, metrics.auroc, same, score, -distance, "pairs"))
  return figures


def _total_loss(losses: Mapping[str, Figure], weights: LossWeights, n_bases: int) -> Figure:
  """The weighted sum of the losses that there are."""
  model = sum(getattr(weights, head) * f.model for head, f in losses.items())
  baseline = sum(getattr(weights, head) * f.baseline for head, f in losses.items())
  return Figure("loss/total", float(model), float(baseline), n_bases, "bases")


# Parameters, statistics and this process's windows -> raw outputs of the global batch.
Forward = Callable[[Values, Values, Mapping[str, np.ndarray]], dict[str, Array]]


def make_predict(functional: FunctionalModel, mesh: Mesh) -> Forward:
  """Compiles the forward pass with running statistics. Call the result within set_mesh."""

  # Whole windows in one place: a process reads its own from its devices.
  @functools.partial(jax.jit, out_shardings=batch_sharding(mesh, 1, False))
  def forward(params: Values, stats: Values, sequence: Array, organism: Array) -> dict[str, Any]:
    return functional.merge(params, stats)(sequence, organism)

  def predict(params: Values, stats: Values, batch: Mapping[str, np.ndarray]) -> dict[str, Array]:
    inputs = put_batch({name: batch[name] for name in ("sequence", "organism")}, mesh)
    return forward(params, stats, inputs["sequence"], inputs["organism"])

  return predict
