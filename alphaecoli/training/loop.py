"""A training run: initialise or resume, step, log, evaluate, save."""

import dataclasses
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from alphaecoli.checkpoints.read import SCORE
from alphaecoli.checkpoints.write import Checkpoints
from alphaecoli.data.pipeline import training_batches
from alphaecoli.evaluation.evaluator import evaluate, make_predict
from alphaecoli.evaluation.results import OrganismReports, Report
from alphaecoli.files import write_json
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.batches import device_batches
from alphaecoli.parallel.sharding import n_window_shards, window_shard
from alphaecoli.progress import progress_bar
from alphaecoli.schema import Config, LossWeights
from alphaecoli.tracks.organisms import Organisms
from alphaecoli.tracks.store import TrackStore
from alphaecoli.training.metrics_log import MetricsLog, Stopwatch, duration, train_line
from alphaecoli.training.monitor import Watch
from alphaecoli.training.optimizer import learning_rate
from alphaecoli.training.preemption import EXIT_STOPPED, Interruption
from alphaecoli.training.profiler import (
  NOT_STEPS,
  Profiler,
  closing_text,
  goodput,
  memory,
  model_flops,
  speed_text,
  utilisation,
)
from alphaecoli.training.step import TrainState, TrainStep, compile_train_step, make_train_step

LOGGER = logging.getLogger("alphaecoli")
VALIDATION_FILE = "validation.json"

_SHOWN = (  # of an evaluation, in the log
  "loss/total",
  "gene_expression/genes_pearson",
  "gene_density/r2",
  "operon_membership/auroc",
)


class _Stopped(Exception):
  """Ends an evaluation that a signal cuts short."""


@dataclasses.dataclass(frozen=True)
class Setup:
  """What stays the same throughout a run."""

  config: Config
  workdir: Path
  organisms: Organisms
  mesh: Mesh
  weights: LossWeights
  functional: FunctionalModel
  optimizer: optax.GradientTransformation
  origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # for the checkpoints


class Loop:
  """The run from one state to the end. Call `run` once, within set_mesh."""

  def __init__(
    self,
    setup: Setup,
    state: TrainState,
    checkpoints: Checkpoints,
    log: MetricsLog,
    interruption: Interruption,
    *,
    clock: Stopwatch,
    profiler: Profiler,
    saved: Mapping[str, Any] | None,
  ):
    """Prepares a run.

    Args:
      setup: of the run.
      state: to start from.
      checkpoints: receives the state.
      log: receives the figures.
      interruption: may end the run.
      clock: of the run.
      profiler: traces steps.
      saved: the loop's part of the checkpoint that the state is from; None for a new run.
    """
    self.setup, self.state = setup, state
    self.checkpoints, self.log, self.interruption = checkpoints, log, interruption
    self.clock, self.profiler = clock, profiler
    self.config = setup.config
    self.step = self.first_step = int(state.step)
    saved = saved or {"watch": None, "best": None, "unmeasured": False}
    self.watch, self.best = Watch(saved["watch"]), saved["best"]
    self.unmeasured = saved["unmeasured"]  # this step's evaluation is still to do
    self.saved = checkpoints.steps[-1] if checkpoints.steps else None
    self._predict = make_predict(setup.functional, setup.mesh)
    self._logged = (self.step, 0.0)  # step and time in steps at the last log line
    self._flops = 0.0  # of a step, on all devices

  def run(self) -> int:
    """Trains to the end or until asked to stop; returns the exit status.

    Raises:
      UserError: a loss became NaN or infinite.
      DataError: a checkpoint could not be written.
    """
    steps, key = self.config.train.steps, jax.random.key(self.config.train.seed)
    batches = device_batches(self._batches(), self.setup.mesh)
    main = jax.process_index() == 0
    self.clock.seconds["start"] = self.clock.elapsed()
    if self.unmeasured and not self._measure():
      return self._stop()
    with progress_bar(steps, self.step, active=main) as show, self.profiler:
      while self.step < steps:
        with self.clock.phase("input"):
          batch = next(batches)
        if self.step == self.first_step:
          train_step = self._compile(batch, key)
        arguments = self.state, batch, key
        self.state, metrics = self.profiler.call(self.step + 1, train_step, *arguments)
        self.step += 1
        self.watch.add(self.step, metrics)
        show(self.step)
        if not self._due():
          return self._stop()
    with self.clock.phase("checkpoint"):
      self.checkpoints.wait()
    return 0

  def _compile(self, batch: Any, key: Any) -> TrainStep:
    """The training step for these shapes."""
    setup, train = self.setup, self.config.train
    pure = make_train_step(
      setup.functional,
      setup.optimizer,
      setup.weights,
      accumulate_steps=train.accumulate_steps,
      dropout=self.config.model.head_dropout > 0,
    )
    with self.clock.phase("compile"):
      step: Any = compile_train_step(pure, setup.functional, setup.optimizer, setup.mesh)
      compiled = step.lower(self.state, batch, key).compile()
      window_bp = self.config.data.window_bp
      self._flops = model_flops(setup.functional, setup.mesh, train.batch_windows, window_bp)
    LOGGER.info("compiled the training step in %s", duration(self.clock.seconds["compile"]))
    self._logged = (self.step, self.clock.outside(*NOT_STEPS))
    return compiled

  def _batches(self) -> Iterator[Any]:
    """The rows of this process of the batches that are left."""
    config, share = self.config, window_shard(self.setup.mesh)
    return iter(
      training_batches(
        self.setup.organisms.stores,
        shares=self.setup.organisms.shares,
        window_bp=config.data.window_bp,
        batch_windows=config.train.batch_windows,
        seed=config.train.seed,
        reverse_complement=config.data.reverse_complement,
        first_step=self.first_step,
        process_index=share.index,
        process_count=share.count,
        threads=config.data.read_threads,
        prefetch=config.data.prefetch,
      )
    )

  def _due(self) -> bool:
    """Does what this step calls for: log, evaluate, save; False if asked to stop."""
    config, last = self.config, self.step == self.config.train.steps
    if last or self.step % config.log.every_steps == 0:
      self._log()
    self.unmeasured = last or self.step % config.evaluation.every_steps == 0
    if self.interruption.requested():
      return False
    if self.unmeasured:
      return self._measure()
    if self.step % config.checkpoint.every_steps == 0:
      self._save()
    return True

  def _measure(self) -> bool:
    """Evaluates this step, and saves it if called for; False if asked to stop meanwhile."""
    last = self.step == self.config.train.steps
    try:
      score = self._evaluate(final=last)
    except _Stopped:
      return False
    self.unmeasured = False
    improved = score is not None and (self.best is None or score < self.best)
    if improved:
      self.best = score
    if self.saved == self.step:  # a signal had cut the evaluation short
      self.checkpoints.set_score(self.step, score)
    elif last or improved or self.step % self.config.checkpoint.every_steps == 0:
      self._save(score)
    return True

  def _log(self) -> None:
    """One line, one record."""
    self.watch.check(self._last_good())
    config, (step, seconds) = self.config, self._logged
    now = self.clock.outside(*NOT_STEPS)
    rate = (self.step - step) / max(now - seconds, 1e-9)
    pace = self.clock.outside("start", "compile") / (self.step - self.first_step)
    windows = rate * config.train.batch_windows
    scalars = {
      **self.watch.summary(),
      "learning_rate": float(learning_rate(config.optimizer, config.train.steps, self.step - 1)),
      "windows_per_s": windows,
      "bases_per_s": windows * config.data.window_bp,
      "seconds_left": pace * (config.train.steps - self.step),
      **self._speed(rate),
    }
    self._logged = (self.step, now)
    LOGGER.info(train_line(self.step, config.train.steps, scalars, speed_text(scalars)))
    self.log.write("train", self.step, {**scalars, "time": time.time()})

  def _speed(self, rate: float) -> dict[str, float]:
    """Figures that differ between two runs of the same steps. The rate is in steps a second."""
    return {**utilisation(rate * self._flops, self.setup.mesh), **goodput(self.clock), **memory()}

  def _evaluate(self, final: bool) -> float | None:
    """Measures the validation split; returns the score that "best" goes by."""
    self.watch.check(self._last_good())
    with self.clock.phase("evaluation"):
      report = self._report()
    scalars = report.scalars()
    self.log.write("validation", self.step, scalars)
    if final:
      LOGGER.info("validation at step %d\n%s", self.step, report.table())
    else:
      shown = "  ".join(f"{name} {scalars[name]:.4f}" for name in _SHOWN if name in scalars)
      LOGGER.info("validation at step %d  %s", self.step, shown)
    if jax.process_index() == 0:
      write_json(self.setup.workdir / VALIDATION_FILE, {"step": self.step, **report.to_json()})
    return scalars.get(SCORE)

  def _report(self) -> Report | OrganismReports:
    stores = self.setup.organisms.stores
    reports = {store.organism: self._report_of(i, store) for i, store in enumerate(stores)}
    return OrganismReports(reports) if len(stores) > 1 else reports[stores[0].organism]

  def _report_of(self, organism: int, store: TrackStore) -> Report:
    """Measures the validation split of one organism."""
    ways, share = n_window_shards(self.setup.mesh), window_shard(self.setup.mesh)
    state = self.state
    return evaluate(
      lambda batch: self._predict(state.params, state.stats, batch),
      store,
      "validation",
      window_bp=self.config.data.window_bp,
      batch_windows=-(-self.config.evaluation.batch_windows // ways) * ways,
      weights=self.setup.weights,
      process_index=share.index,
      process_count=share.count,
      contributes=share.first,
      progress=self._until_stopped,
      organism=organism,
    )

  def _until_stopped(self, batches: Iterable[Any]) -> Iterator[Any]:
    """The batches of an evaluation, cut short by a signal."""
    for batch in batches:
      if self.interruption.requested():
        raise _Stopped
      yield batch

  def _save(self, score: float | None = None) -> None:
    """Starts a save of this step."""
    self.watch.check(self._last_good())
    with self.clock.phase("checkpoint"):
      self.checkpoints.save(self.step, state_items(self.state), self._meta(), score)
    self.saved = self.step

  def _meta(self) -> dict[str, Any]:
    """What a checkpoint says about itself."""
    config = self.config
    return {
      **self.setup.origin,
      "config": config.to_dict(),
      "table": self.setup.organisms.table.to_json(),
      "store_fingerprint": self.setup.organisms.fingerprint,
      "organisms": [organism.to_json() for organism in self.setup.organisms.trained],
      "data": {
        "next_step": self.step,
        "seed": config.train.seed,
        "batch_windows": config.train.batch_windows,
        "window_bp": config.data.window_bp,
      },
      "loop": {
        "watch": self.watch.to_json(),
        "best": self.best,
        "unmeasured": self.unmeasured,
      },
    }

  def _stop(self) -> int:
    """Saves and says how to go on."""
    if self.saved != self.step:
      self._save()
    with self.clock.phase("checkpoint"):
      self.checkpoints.wait()
    LOGGER.warning(
      "stopped by %s after step %d of %d, which is saved; the same command continues (exit %d)",
      self.interruption.signal_name,
      self.step,
      self.config.train.steps,
      EXIT_STOPPED,
    )
    return EXIT_STOPPED

  def close(self) -> dict[str, Any]:
    """Says where the time went; returns it for the run's record."""
    done = self.step - self.first_step
    speed = self._speed(done / max(self.clock.outside(*NOT_STEPS), 1e-9))
    LOGGER.info("%d steps in %s", done, closing_text(self.clock))
    LOGGER.info("on average %s", speed_text(speed))
    return {"step": self.step, "seconds": self.clock.elapsed(), **speed}

  def _last_good(self) -> str:
    """Where to go back to, for an error message."""
    if self.saved is None:
      return "there is no checkpoint yet"
    return f"last good checkpoint: step {self.saved} in {self.checkpoints.directory}"


def state_items(state: TrainState) -> dict[str, Any]:
  """The items of a checkpoint; prediction reads params and stats alone."""
  train = {"step": state.step, "opt_state": state.opt_state}
  return {"params": state.params, "stats": state.stats, "train": train}


def items_state(items: dict[str, Any]) -> TrainState:
  """The state again."""
  train = items["train"]
  return TrainState(train["step"], items["params"], items["stats"], train["opt_state"])
