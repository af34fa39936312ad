"""What is measured and kept for prediction: averaged parameters, with statistics of their own.

Running statistics are those under the parameters of the last steps, which differ from their
average: before it is used, statistics are estimated anew under it, from training windows.

Source: Izmailov et al. 2018, arXiv:1803.05407, section 3.2; the plain mean over batches is that of
PyTorch's torch.optim.swa_utils.update_bn.
"""

import itertools
from collections.abc import Callable

import jax
import numpy as np
import optax
from jax import Array

from alphaecoli.data.pipeline import Batches
from alphaecoli.model.functional import Values
from alphaecoli.parallel.batches import abstract_batch, device_batches
from alphaecoli.schema import Config
from alphaecoli.training.step import StepDefinition, TrainState

# Forward passes of whole batches: the mean's error is then a sixth of one batch's deviation (a
# running mean of decay 0.9 counts 19 batches). In the quick start they take 13 CPU seconds, as long
# as seven steps.
STATISTICS_BATCHES = 32


class Averaging:
  """The parameters and statistics to measure of each state; the state's own without an average."""

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
