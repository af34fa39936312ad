"""One training step: pure, compiled once, unchanged on any mesh; and averages of its states."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PRNGKeyArray

from alphaecoli.data.pipeline import Batches, configured_batches
from alphaecoli.model.functional import FunctionalModel, Values
from alphaecoli.parallel.batches import abstract_batch, device_batches
from alphaecoli.parallel.sharding import constrain
from alphaecoli.schema import LATE_FACTOR, Config
from alphaecoli.tracks.store import TrackStore
from alphaecoli.tracks.track_table import TrackTable, active_weights
from alphaecoli.training.losses import HeadWeights, active_heads, known_counts, losses
from alphaecoli.training.optimizer import make_optimizer, optimizer_shardings

# XLA for CPUs merges what is computed anew with what was computed before, unless the barriers that
# jax.checkpoint puts between them stay to the end (jaxlib 0.10.2; docs/model.md has figures).
_CPU_OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}


class TrainState(NamedTuple):
  """Everything that a step reads and replaces.

  Attributes:
    step: number of steps done, int32.
    params: parameters by name, frozen ones too.
    stats: running statistics by name, frozen ones too.
    opt_state: the optimiser's, of the parameters that learn.
    average: averages of the parameters that learn, by name; empty where none are kept.
  """

  step: Array
  params: Values
  stats: Values
  opt_state: Any
  average: Values


Batch = Mapping[str, Array]
Metrics = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class StepDefinition:
  """The training step of a configuration on a mesh, before it is compiled.

  Attributes:
    functional: model, with its frozen parts and LoRA factors.
    optimizer: of the parameters that learn.
    weights: weights of the losses, 0 for heads without targets.
    mesh: devices.
    accumulate_steps: micro-batches of a batch.
    dropout: whether the heads' inputs have dropout.
    expression_weighting: "gene" or "base", as in `loss.expression_weighting`.
    structure_first_steps: steps in which late heads have a small weight.
    ema_decay: decay of the average of the parameters; 0 for none.
  """

  functional: FunctionalModel
  optimizer: optax.GradientTransformation
  weights: HeadWeights
  mesh: Mesh
  accumulate_steps: int = 1
  dropout: bool = False
  expression_weighting: str = "gene"
  structure_first_steps: int = 0
  ema_decay: float = 0.0

  @classmethod
  def of_config(
    cls, config: Config, table: TrackTable, mesh: Mesh, functional: FunctionalModel | None = None
  ) -> "StepDefinition":
    """Defines the step of a configuration, for its own model by default."""
    return cls(
      functional=functional or FunctionalModel.of_config(config, table),
      optimizer=make_optimizer(config.optimizer, config.train.steps),
      weights=active_weights(config.loss.weights, table),
      mesh=mesh,
      accumulate_steps=config.train.accumulate_steps,
      dropout=config.model.head_dropout > 0,
      expression_weighting=config.loss.expression_weighting,
      structure_first_steps=config.loss.structure_first_steps,
      ema_decay=config.train.ema_decay,
    )

  def jit(self) -> Any:
    """Returns the jitted step: the state is donated and stays where it lies. Use in set_mesh."""
    on_cpu = self.mesh.devices.flat[0].platform == "cpu"
    return jax.jit(
      self.step,
      donate_argnums=0,
      out_shardings=(
        state_shardings(self.abstract_state()),
        NamedSharding(self.mesh, PartitionSpec()),
      ),
      compiler_options=_CPU_OPTIONS if on_cpu else None,
    )

  def abstract_state(self) -> TrainState:
    """Returns shapes, types and shardings of the state: the target of a restore."""
    params, stats = self.functional.abstract(self.mesh)
    learning = self.functional.learning(params)
    opt_state = jax.tree.map(
      lambda shape, where: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=where),
      jax.eval_shape(self.optimizer.init, learning),
      optimizer_shardings(self.optimizer, learning, self.mesh),
    )
    whole = NamedSharding(self.mesh, PartitionSpec())
    step: Any = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    return TrainState(step, params, stats, opt_state, learning if self.ema_decay else {})

  def abstract_inputs(self, config: Config, store: TrackStore) -> tuple[Any, ...]:
    """Returns state, batch and key as shapes: what a step is compiled for where none is run."""
    with configured_batches(store, config, batch_windows=1, threads=0) as batches:
      batch = abstract_batch(next(batches), config.train.batch_windows, self.mesh)
    return self.abstract_state(), batch, jax.eval_shape(lambda: jax.random.key(config.train.seed))

  def init_state(self, seed: int) -> TrainState:
    """Makes a fresh state, each array where it belongs; the same for any number of devices."""
    return self.first_state(*self.functional.init(seed, self.mesh))

  def first_state(self, params: Values, stats: Values) -> TrainState:
    """Makes the state before the first step; the optimiser keeps nothing of frozen parameters."""
    where = state_shardings(self.abstract_state())
    init = jax.jit(self.optimizer.init, out_shardings=where.opt_state)
    step = jax.device_put(jnp.zeros((), jnp.int32), where.step)
    learning = self.functional.learning(params)
    # Copies: the step takes over the arrays of its state, and none may be in it twice.
    copy = jax.jit(lambda values: jax.tree.map(jnp.copy, values), out_shardings=where.average)
    average = copy(learning) if self.ema_decay else {}
    return TrainState(step, params, stats, init(learning), average)

  def step(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> tuple[TrainState, Metrics]:
    """Takes one step: a pure function, not compiled.

    With `accumulate_steps` above 1 the batch is cut into so many micro-batches, one after the
    other; losses are still means over the known values of the whole batch. Batch statistics are
    those of a micro-batch, and the running ones move by the mean over micro-batches. What is frozen
    passes through untouched, and no gradient of it is computed.

    Returns:
      The next state, and metrics, float32 scalars: loss/total, loss/<head>, grad_norm (before
      clipping), output_std/<head>, known/<head> (known values, or the sum of their weights: genes,
      pairs), stats_finite (1 or 0); and start and reverse of the batch's windows.
    """
    key, decay = jax.random.fold_in(key, state.step), self.ema_decay
    counts = known_counts(batch, self.functional.heads, self.expression_weighting)
    learning = self.functional.learning(state.params)
    one = functools.partial(jax.grad(self._loss, has_aux=True), learning, state)
    if self.accumulate_steps == 1:
      grads, (stats, metrics) = one(batch, counts, key)
    else:
      grads, stats, metrics = _accumulate(one, self.accumulate_steps, batch, counts, key)
    updates, opt_state = self.optimizer.update(grads, state.opt_state, learning)
    learning = optax.apply_updates(learning, updates)
    average = move_average(state.average, learning, state.step, decay) if decay else {}
    for head in active_heads(self.weights):
      mean, square = metrics.pop(f"moment1/{head}"), metrics.pop(f"moment2/{head}")
      metrics[f"output_std/{head}"] = jnp.sqrt(jnp.maximum(square - jnp.square(mean), 0))
      metrics[f"known/{head}"] = counts[head]
    metrics["grad_norm"] = optax.tree.norm(grads)
    finite = [jnp.isfinite(value).all() for value in stats.values()]
    metrics["stats_finite"] = jnp.stack([*finite, jnp.array(True)]).all().astype(jnp.float32)
    metrics |= {"start": batch["start"], "reverse": batch["reverse"]}
    stats = {**state.stats, **stats}
    params = {**state.params, **learning}
    return TrainState(state.step + 1, params, stats, opt_state, average), metrics

  def _loss(
    self, learning: Values, state: TrainState, batch: Batch, counts: Batch, key: PRNGKeyArray
  ) -> tuple[Array, tuple[Values, Metrics]]:
    """Computes the total loss of a batch or micro-batch, its new statistics and its metrics."""
    functional, parts = self.functional, self.accumulate_steps
    model = functional.merge({**state.params, **learning}, state.stats)
    dropout_key = key if self.dropout else None
    outputs = model(batch["sequence"], batch["organism"], train=True, dropout_key=dropout_key)
    late: Any = 1.0  # no arithmetic where the heads learn together
    if self.structure_first_steps:
      late = jnp.where(state.step < self.structure_first_steps, LATE_FACTOR, 1.0)
    weighting = self.expression_weighting
    total, by_head = losses(outputs, batch, self.weights, counts, functional.heads, weighting, late)
    metrics = {"loss/total": total} | {f"loss/{head}": value for head, value in by_head.items()}
    for head in active_heads(self.weights):
      metrics[f"moment1/{head}"] = outputs[head].mean((1, 2)).mean() / parts
      metrics[f"moment2/{head}"] = jnp.square(outputs[head]).mean((1, 2)).mean() / parts
    return total, (functional.learning(functional.split(model)[1]), metrics)


def move_average(average: Values, params: Values, step: Array, decay: float) -> Values:
  """Moves averages towards the parameters after a step, counted from 0.

  The first steps move them faster, so that where training began is soon forgotten.

  Source: TensorFlow, tf.train.ExponentialMovingAverage, num_updates.
  """
  return optax.incremental_update(params, average, 1 - jnp.minimum(decay, (1 + step) / (10 + step)))


def _accumulate(
  gradient: Callable[..., Any],
  parts: int,
  batch: Batch,
  counts: Batch,
  key: PRNGKeyArray,
) -> tuple[Values, Values, Metrics]:
  """Sums gradients and metrics over micro-batches and averages their statistics."""

  def cut(x: Array) -> Array:
    """Deals every `parts`-th window to a micro-batch: each device's windows stay on it."""
    cut = jnp.moveaxis(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0)
    return constrain(cut, None, "batch", *("position", "track")[: x.ndim - 1])

  def one(total: Any, part: tuple[Array, Batch]) -> tuple[Any, None]:
    index, micro = part
    grads, (stats, metrics) = gradient(micro, counts, jax.random.fold_in(key, index))
    stats = {name: value / parts for name, value in stats.items()}
    return jax.tree.map(jnp.add, total, (grads, stats, metrics)), None

  micros = {name: cut(x) for name, x in batch.items()}
  first = {name: x[0] for name, x in micros.items()}
  shapes = jax.eval_shape(gradient, first, counts, key)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (shapes[0], *shapes[1]))
  total, _ = jax.lax.scan(one, zeros, (jnp.arange(parts), micros))
  return total


def planned_bytes(compiled: Any) -> int | None:
  """Returns what a program holds of a device's memory, by the compiler's plan, where it tells."""
  memory = compiled.memory_analysis()
  if memory is None:
    return None
  both = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
  return both + memory.temp_size_in_bytes


def state_shardings(abstract: TrainState) -> TrainState:
  """Returns the shardings of an abstract state."""
  return jax.tree.map(lambda leaf: leaf.sharding, abstract)


# Forward passes of whole batches: the mean's error is then a sixth of one batch's deviation (a
# running mean of decay 0.9 counts 19 batches). In the quick start they take 13 CPU seconds, as long
# as seven steps.
STATISTICS_BATCHES = 32


class Averaging:
  """The parameters and statistics to measure of each state; the state's own without an average.

  Running statistics are those under the parameters of the last steps, which differ from their
  average: before it is used, statistics are estimated anew under it, from training windows.

  Source: Izmailov et al. 2018, arXiv:1803.05407, section 3.2; the plain mean over batches is that
  of PyTorch's torch.optim.swa_utils.update_bn.
  """

  def __init__(
    self, definition: StepDefinition, config: Config, batches: Callable[[int, int], Batches]
  ):
    """Prepares, without compiling.

    Args:
      definition: training step, whose state has the averages.
      config: configuration of the run.
      batches: function from the first step and the windows of a batch to this process's rows of
        training batches.
    """
    self._functional, self._mesh = definition.functional, definition.mesh
    self._abstract, self._batches = definition.abstract_state(), batches
    # As in training, a batch that is cut into micro-batches has the statistics of those.
    parts = config.train.accumulate_steps
    self._windows, self._n = config.train.batch_windows // parts, STATISTICS_BATCHES * parts
    self._window_bp = config.data.window_bp
    self._add: Callable[..., Values] | None = None
    self._made: tuple[int, Values] | None = None  # statistics of a step

  def compile(self) -> None:
    """Compiles what `values` runs, so that a run that is told to stop need not. Use in set_mesh."""
    if not self._abstract.average or not self._functional.learning(self._abstract.stats):
      return
    inputs: dict[str, np.ndarray] = {
      "sequence": np.zeros((1, self._window_bp), np.uint8),
      "organism": np.zeros(1, np.int32),
    }
    where = {name: leaf.sharding for name, leaf in self._abstract.stats.items()}
    self._add = (
      jax.jit(self._add_batch, out_shardings=where)
      .lower(
        self._abstract.params,
        self._abstract.stats,
        abstract_batch(inputs, self._windows, self._mesh),
        jax.ShapeDtypeStruct((), np.float32),
      )
      .compile()
    )

  def values(self, state: TrainState) -> tuple[Values, Values]:
    """Returns parameters and running statistics, made once a step. Call `compile` before."""
    if not state.average:
      return state.params, state.stats
    params, step = {**state.params, **state.average}, int(state.step)
    if self._made is None or self._made[0] != step:
      self._made = step, self._estimate(params, state.stats)
    return params, self._made[1]

  def _estimate(self, params: Values, stats: Values) -> Values:
    """Computes the mean statistics of the run's first batches; those of frozen norms stay."""
    if self._add is None:
      return stats
    with self._batches(0, self._windows) as stream:
      batches = (
        {"sequence": batch["sequence"], "organism": batch["organism"]}
        for batch in itertools.islice(stream, self._n)
      )
      for i, batch in enumerate(device_batches(batches, self._mesh)):
        stats = self._add(params, stats, batch, np.float32(1 / (i + 1)))
    return stats

  def _add_batch(
    self, params: Values, stats: Values, batch: dict[str, Array], share: Array
  ) -> Values:
    """Moves means by a batch's share; the first has 1, and nothing of what was there is left."""
    found = self._functional.batch_statistics(params, stats, batch["sequence"], batch["organism"])
    means = self._functional.learning(stats)
    return {**stats, **optax.incremental_update(found, means, share)}
