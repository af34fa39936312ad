"""Held-out metrics beside baselines on the same bases. Definitions: docs/evaluation.md."""

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
from alphaecoli.evaluation import metrics, structure
from alphaecoli.evaluation.gene_values import gene_columns, pair_columns
from alphaecoli.evaluation.results import Metric, Predictions, Report
from alphaecoli.evaluation.split_arrays import Assembly, Layout, local_rows
from alphaecoli.model.functional import FunctionalModel, Values
from alphaecoli.parallel.batches import prefetch, put_batch
from alphaecoli.parallel.sharding import batch_sharding, n_window_shards, window_shard
from alphaecoli.schema import BIN_BP, HEADS, Config, LossWeights
from alphaecoli.tracks.gene_targets import is_protein_coding
from alphaecoli.tracks.store import WEIGHTED, TrackStore
from alphaecoli.tracks.track_table import TrackTable, active_weights

LOGGER = logging.getLogger(__name__)
Batch = Mapping[str, np.ndarray]
Outputs = Mapping[str, Any]
Progress = Callable[[Iterable[Any]], Iterable[Any]]
MetricFunction = Callable[[Any, Any], float]
# Parameters, running statistics and this process's windows -> raw outputs of the global batch.
CompiledForward = Callable[[Values, Values, Batch], dict[str, Array]]


def make_predict(
  functional: FunctionalModel, mesh: Mesh, both_strands: TrackTable | None = None
) -> CompiledForward:
  """Compiles `functional.outputs`, which says more. Call the result within set_mesh."""

  # Whole windows in one place: a process reads its own from its devices.
  @functools.partial(jax.jit, out_shardings=batch_sharding(mesh, 1, False))
  def forward(params: Values, stats: Values, sequence: Array, organism: Array) -> dict[str, Any]:
    return functional.outputs(params, stats, sequence, organism, both_strands)

  def predict(params: Values, stats: Values, batch: Batch) -> dict[str, Array]:
    inputs = put_batch({name: batch[name] for name in ("sequence", "organism")}, mesh)
    return forward(params, stats, inputs["sequence"], inputs["organism"])

  return predict


def evaluate_on(
  mesh: Mesh,
  predict: Callable[[Batch], Outputs],
  store: TrackStore,
  split: str,
  config: Config,
  table: TrackTable,
  *,
  batch_windows: int | None = None,
  progress: Progress | None = None,
  organism: int = 0,
) -> Report:
  """Measures a model as a run's configuration says, with windows spread over a mesh.

  Args:
    mesh: devices that hold the model.
    predict: function from a batch to raw outputs; `evaluate` says more of it, and of `store`,
      `split`, `progress` and `organism`.
    config: configuration of the run.
    table: tracks of the model; heads without targets in them are left out.
    batch_windows: windows at once, rounded up to fill the mesh; by default the configuration's.
  """
  shards, shard = n_window_shards(mesh), window_shard(mesh)
  windows = batch_windows or config.evaluation.batch_windows
  return evaluate(
    predict,
    store,
    split,
    window_bp=config.data.window_bp,
    batch_windows=-(-windows // shards) * shards,
    weights=active_weights(config.loss.weights, table),
    process_index=shard.index,
    process_count=shard.count,
    contributes=shard.first,
    progress=progress,
    organism=organism,
    expression_weighting=config.loss.expression_weighting,
  )


def evaluate(
  predict: Callable[[Batch], Outputs],
  store: TrackStore,
  split: str,
  *,
  window_bp: int,
  batch_windows: int,
  weights: LossWeights | None = None,
  process_index: int | None = None,
  process_count: int | None = None,
  contributes: bool = True,
  progress: Progress | None = None,
  organism: int = 0,
  expression_weighting: str = "gene",
) -> Report:
  """Measures a model on a split, every base once, in one pass.

  Every process of a run calls this, predicts its shard of the windows, and returns the same report.

  Args:
    predict: function from a batch (docs/data.md, a leading axis of this process's windows) to raw
      outputs: z-scores, densities and logits. Outputs are numpy or jax arrays, of this process's
      windows or global.
    store: track store with the targets; metrics are over all of its contigs.
    split: train, validation or test.
    window_bp: length of a window.
    batch_windows: windows at once over all processes.
    weights: weights of the losses in loss/total, 1 by default; a head with weight 0 is switched
      off and has no metrics.
    process_index: index of this process, by default jax's; where several processes hold the same
      windows (`sharding.window_shard`), of their shard.
    process_count: number of processes or shards, likewise.
    contributes: whether this process's predictions count: False in all but one of the processes
      that hold the same windows.
    progress: wrapper of the batches, for a progress bar.
    organism: row of the store in the organism embedding.
    expression_weighting: "gene" or "base", as in `loss.expression_weighting`.

  Raises:
    UserError: a prediction is not finite.
  """
  index = jax.process_index() if process_index is None else process_index
  count = jax.process_count() if process_count is None else process_count
  contigs = []
  for own in store.replicons:
    contigs.append(Assembly(Layout.of_contig(own, split), len(store.table.expression)))
    if own is not store and not own.regions(split):
      continue  # a short contig is for training alone
    contigs[-1] = assemble(
      predict,
      own,
      split,
      window_bp=window_bp,
      batch_windows=batch_windows,
      process_index=index,
      process_count=count,
      progress=progress,
      organism=organism,
    )
    if count > 1:
      contigs[-1].gather(contributes)
  return summarise(Assembly.joined(contigs), store, split, weights, expression_weighting)


def assemble(
  predict: Callable[[Batch], Outputs],
  store: TrackStore,
  split: str,
  *,
  window_bp: int,
  batch_windows: int,
  process_index: int = 0,
  process_count: int = 1,
  progress: Progress | None = None,
  organism: int = 0,
) -> Assembly:
  """Predicts one process's shard of a split of one contig. Arguments: see `evaluate`."""
  assembly = Assembly(Layout.of_contig(store, split), len(store.table.expression))
  with evaluation_batches(
    store,
    split,
    window_bp=window_bp,
    batch_windows=batch_windows,
    process_index=process_index,
    process_count=process_count,
    organism=organism,
  ) as batches:
    predicted = ((b, predict(b)) for b in (batches if progress is None else progress(batches)))
    for batch, outputs in prefetch(predicted):
      rows = len(batch["start"])
      local = {h: local_rows(outputs[h], process_index, rows) for h in HEADS if h in outputs}
      assembly.add(batch, local)
  return assembly


def summarise(
  assembly: Assembly,
  store: TrackStore,
  split: str,
  weights: LossWeights | None = None,
  expression_weighting: str = "gene",
) -> Report:
  """Computes the metrics of an assembled split. Arguments: see `evaluate`."""
  weights, table = weights or LossWeights(*(1.0 for _ in HEADS)), store.table
  skipped = _skipped(assembly, table, weights)
  for head, why in skipped.items():
    _say_once(f"{head} is not evaluated: {why}")
  genes = gene_columns(assembly, store)
  pairs = pair_columns(assembly, genes)
  found: list[Metric] = []
  if "gene_expression" not in skipped:
    found += _expression_metrics(assembly, store, genes)
  if "gene_density" not in skipped:
    found += _density_metrics(assembly, table)
  if "operon_membership" not in skipped:
    found += _operon_metrics(assembly, table, pairs)
  if "gene_structure" not in skipped:
    found += structure.structure_metrics(assembly, store, split)
  if "operon_junction" not in skipped:
    pairs["junction"] = structure.junction_scores(assembly, genes, pairs)
    found += structure.junction_metrics(
      assembly, store, pairs, calls="gene_structure" not in skipped
    )
  losses = {
    head: _head_loss(assembly, store, head, expression_weighting)
    for head in HEADS
    if head not in skipped
  }
  found += [*losses.values(), _total_loss(losses, weights, assembly.layout.n_bases)]
  predictions = Predictions(assembly.layout, assembly.predictions, assembly.targets, genes, pairs)
  return Report(split, assembly.layout.n_bases, tuple(found), skipped, predictions)


@functools.cache
def _say_once(message: str) -> None:
  """Logs a message the first time it comes up."""
  LOGGER.warning(message)


def _skipped(assembly: Assembly, table: TrackTable, weights: LossWeights) -> dict[str, str]:
  """Returns the heads without metrics, and why."""
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


def _known_values(
  assembly: Assembly, head: str, track: int | slice = 0
) -> tuple[np.ndarray, np.ndarray]:
  """Returns targets and predictions of one track, or several, where the target is known."""
  target, prediction = assembly.targets[head][:, track], assembly.predictions[head][:, track]
  mask = ~np.isnan(target)
  return target[mask].astype(np.float64), prediction[mask].astype(np.float64)


def _metric(
  name: str, metric: MetricFunction, target: Any, model: Any, baseline: Any, over: str
) -> Metric:
  """Computes one metric of the model and of a baseline on the same targets."""
  baseline = np.broadcast_to(np.asarray(baseline, np.float64), np.shape(target))
  return Metric(name, metric(target, model), metric(target, baseline), len(target), over)


def _expression_metrics(
  assembly: Assembly, store: TrackStore, genes: Mapping[str, np.ndarray]
) -> list[Metric]:
  """Computes metrics over genes and bases: of one track, or the mean over tracks and of each."""
  over_genes = {"r2": metrics.r2, "pearson": metrics.pearson, "spearman": metrics.spearman}
  table, coding = store.table, is_protein_coding(store.all_genes)[genes["row"]]
  single = len(table.expression) == 1
  found: dict[str, list[Metric]] = {}
  for i, track in enumerate(table.names):
    suffix = "" if single else f"/{track}"
    target, model = genes["target_z"][:, i], genes["predicted_z"][:, i]
    mask = ~np.isnan(target) & ~np.isnan(model)
    for which, rows in (("genes", mask), ("coding_genes", mask & coding)):
      for key, metric in over_genes.items():
        name = f"gene_expression/{which}_{key}"
        genewise = _metric(name + suffix, metric, target[rows], model[rows], 0, "genes")
        found.setdefault(name, []).append(genewise)
    name = "gene_expression/bases_r2"
    bases = _metric(
      name + suffix, metrics.r2, *_known_values(assembly, "gene_expression", i), 0, "bases"
    )
    found.setdefault(name, []).append(bases)
  each = [metric for by_track in found.values() for metric in by_track]
  return each if single else [_mean(name, by_track) for name, by_track in found.items()] + each


def _mean(name: str, by_track: list[Metric]) -> Metric:
  """Averages a metric over the tracks where it is defined; counts the values of them all."""
  model = metrics.mean_defined(m.model for m in by_track)
  baseline = metrics.mean_defined(m.baseline for m in by_track)
  return Metric(name, model, baseline, sum(m.n for m in by_track), by_track[0].over)


def _density_metrics(assembly: Assembly, table: TrackTable) -> list[Metric]:
  """Computes metrics over bins."""
  target, model = _known_values(assembly, "gene_density")
  by_name = {"r2": metrics.r2, "pearson": metrics.pearson, "mse": metrics.mse}
  return [
    _metric(f"gene_density/{key}", metric, target, model, table.density_mean, "bins")
    for key, metric in by_name.items()
  ]


def _operon_metrics(
  assembly: Assembly, table: TrackTable, pairs: Mapping[str, np.ndarray]
) -> list[Metric]:
  """Computes metrics over bases, then over pairs of genes."""
  target, logit = _known_values(assembly, "operon_membership")
  probability = special.expit(logit)
  values = target, probability, table.operon_prevalence, "bases"
  found = [
    _metric(f"operon_membership/{key}", getattr(metrics, key), *values)
    for key in ("auroc", "auprc", "accuracy", "f1", "brier", "calibration_error")
  ]
  return [*found, *structure.pair_metrics("operon_membership", pairs, pairs["probability"])]


def _head_loss(assembly: Assembly, store: TrackStore, head: str, weighting: str) -> Metric:
  """Computes the training loss of a head over all its known values, weighted as in training."""
  table, target = store.table, assembly.targets[head]
  mask = ~np.isnan(target)
  weight = np.broadcast_to(HEADS[head].channel_weights or 1.0, target.shape)
  if head in WEIGHTED and (head, weighting) != ("gene_expression", "base"):
    each = zip(store.replicons, assembly.layout.parts, strict=True)
    parts = [own.target_weight(head, a, b - a) for own, part in each for a, b in part.regions]
    weight = np.concatenate(parts).astype(np.float64)
  loss = {"squared_error": metrics.mse, "cross_entropy": metrics.cross_entropy}[HEADS[head].loss]
  constant = {
    "gene_density": table.density_mean,
    "operon_membership": float(special.logit(table.operon_prevalence)),
  }.get(head, 0.0)  # z-scores: 0 is their training mean
  over = "bins" if HEADS[head].resolution_bp == BIN_BP else "bases"
  values = (target[mask], assembly.predictions[head][mask], constant, over)
  return _metric(f"loss/{head}", functools.partial(loss, weight=weight[mask]), *values)


def _total_loss(losses: Mapping[str, Metric], weights: LossWeights, n_bases: int) -> Metric:
  """Computes the weighted sum of the losses that there are."""
  model = sum(getattr(weights, head) * loss.model for head, loss in losses.items())
  baseline = sum(getattr(weights, head) * loss.baseline for head, loss in losses.items())
  return Metric("loss/total", float(model), float(baseline), n_bases, "bases")
