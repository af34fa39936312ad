"""A training run: initialise or resume, step, log, evaluate, save."""

import dataclasses
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax

from alphaecoli.checkpoints.read import GENE_MODELS, SCORE
from alphaecoli.checkpoints.write import Checkpoints
from alphaecoli.cli import progress_bar
from alphaecoli.data.pipeline import Batches, configured_batches
from alphaecoli.evaluation.evaluator import evaluate_on, make_predict
from alphaecoli.evaluation.gene_fits import GeneFit
from alphaecoli.evaluation.gene_level import with_gene_models
from alphaecoli.evaluation.results import OrganismReports, Report
from alphaecoli.files import AnyPath, write_json
from alphaecoli.model.functional import Values
from alphaecoli.parallel.batches import device_batches
from alphaecoli.parallel.sharding import window_shard
from alphaecoli.schema import Config
from alphaecoli.tracks.organisms import Organisms
from alphaecoli.training.metrics_log import MetricsLog, Stopwatch, duration, train_line
from alphaecoli.training.monitor import Watch
from alphaecoli.training.optimizer import learning_rate
from alphaecoli.training.profiler import (
  NOT_STEPS,
  Profiler,
  StepTimes,
  closing_text,
  goodput,
  memory,
  model_flops,
  speed_text,
  utilisation,
)
from alphaecoli.training.resume import EXIT_STOPPED, Interruption
from alphaecoli.training.step import Averaging, StepDefinition, TrainState

LOGGER = logging.getLogger(__name__)
VALIDATION_FILE = "validation.json"

_SHOWN = (  # metrics of an evaluation that the log shows before the end
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
  workdir: AnyPath
  organisms: Organisms
  definition: StepDefinition
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
      setup: parts of the run that stay the same.
      state: state to start from.
      checkpoints: receiver of the states.
      log: receiver of the metrics.
      interruption: signals that may end the run.
      clock: stopwatch of the run.
      profiler: tracer of steps.
      saved: part of the loop in the checkpoint that the state is from; None for a new run.
    """
    self.setup, self.state = setup, state
    self.checkpoints, self.log, self.interruption = checkpoints, log, interruption
    self.clock, self.profiler, self.times = clock, profiler, StepTimes(clock)
    self.config, self.mesh = setup.config, setup.definition.mesh
    self.step = self.first_step = int(state.step)
    saved = saved or {"watch": None, "best": None, "unmeasured": False}
    self.watch, self.best = Watch(saved["watch"], self.times.mark), saved["best"]
    self.unmeasured = saved["unmeasured"]  # this step's evaluation is still to do
    self.saved = checkpoints.steps[-1] if checkpoints.steps else None
    self._gene_fit = GeneFit(self.config.data.window_bp)
    self._gene_models: dict[str, Any] = {}  # of the last evaluation, by organism
    self._averaging = Averaging(setup.definition, self.config, self._batches)
    both_strands = setup.organisms.table if self.config.evaluation.both_strands else None
    self._predict = make_predict(setup.definition.functional, self.mesh, both_strands)
    self._logged = (self.step, 0.0)  # step and time in steps at the last log line
    self._flops = 0.0  # of a step, on all devices

  def run(self) -> int:
    """Trains to the end or until asked to stop; returns the exit status.

    Raises:
      UserError: a loss became NaN or infinite.
      DataError: a checkpoint could not be written.
    """
    config, key = self.config, jax.random.key(self.config.train.seed)
    stream = self._batches(self.first_step, config.train.batch_windows)
    batches = device_batches(stream, self.mesh)
    self.clock.seconds["start"] = self.clock.elapsed()
    with self.clock.phase("compile"):
      self._averaging.compile()
    if self.unmeasured and not self._measure():
      return self._stop()
    main = jax.process_index() == 0
    self.times.begin()
    with progress_bar(config.train.steps, self.step, active=main) as show, self.profiler:
      while self.step < config.train.steps:
        with self.clock.phase("input"):
          batch = next(batches)
        if self.step == self.first_step:
          train_step = self._compile(batch, key)
        self.profiler.before(self.step + 1, self.state)
        with jax.profiler.StepTraceAnnotation("train", step_num=self.step + 1):
          self.state, metrics = train_step(self.state, batch, key)
        self.step += 1
        self.profiler.after(self.step, self.state)
        self.watch.add(self.step, metrics)
        show(self.step)
        if self._is_due(config.log.every_steps):
          self._log()
        self.unmeasured = self._is_due(config.evaluation.every_steps)
        if self.interruption.requested() or (self.unmeasured and not self._measure()):
          return self._stop()
        if self._is_due(config.checkpoint.every_steps) and self.saved != self.step:
          self._save()
    with self.clock.phase("checkpoint"):
      self.checkpoints.wait()
    return 0

  def _is_due(self, every_steps: int) -> bool:
    """Returns whether this step is one of every so many, or the last."""
    return self.step % every_steps == 0 or self.step == self.config.train.steps

  def _compile(self, batch: Any, key: Any) -> jax.stages.Compiled:
    """Compiles the training step for these shapes."""
    definition, config = self.setup.definition, self.config
    with self.clock.phase("compile"):
      compiled = definition.jit().lower(self.state, batch, key).compile()
      windows, window_bp = config.train.batch_windows, config.data.window_bp
      self._flops = model_flops(definition.functional, windows, window_bp)
    LOGGER.info("compiled the training step in %s", duration(self.clock.seconds["compile"]))
    self._logged = (self.step, self.clock.outside(*NOT_STEPS))
    return compiled

  def _batches(self, first_step: int, batch_windows: int) -> Batches:
    """Returns this process's rows of the training batches from a step on."""
    shard, organisms = window_shard(self.mesh), self.setup.organisms
    return configured_batches(
      organisms.stores,
      self.config,
      shares=organisms.shares,
      first_step=first_step,
      batch_windows=batch_windows,
      process_index=shard.index,
      process_count=shard.count,
    )

  def _measure(self) -> bool:
    """Evaluates this step, and saves it if called for; False if asked to stop meanwhile."""
    try:
      score = self._evaluate()
    except _Stopped:
      return False
    self.unmeasured = False
    improved = score is not None and (self.best is None or score < self.best)
    if improved:
      self.best = score
    if self.saved == self.step:  # a signal had cut the evaluation short
      self.checkpoints.set_score(self.step, score, {GENE_MODELS: self._gene_models})
    elif improved or self._is_due(self.config.checkpoint.every_steps):
      self._save(score, {GENE_MODELS: self._gene_models})
    return True

  def _log(self) -> None:
    """Writes one line and one record."""
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
    text, spent = self.times.recent()
    LOGGER.info(train_line(self.step, config.train.steps, scalars, f"{text}{speed_text(scalars)}"))
    self.log.write("train", self.step, {**scalars, **spent, "time": time.time()})

  def _speed(self, rate: float) -> dict[str, float]:
    """Measures what differs between two runs of the same steps, from steps a second."""
    return {**utilisation(rate * self._flops, self.mesh), **goodput(self.clock), **memory()}

  def _evaluate(self) -> float | None:
    """Measures the validation split; returns the score of "best"."""
    self.watch.check(self._last_good())
    with self.clock.phase("evaluation"):
      report = self._report()
    scalars = report.scalars()
    self.log.write("validation", self.step, scalars)
    if self.step == self.config.train.steps:
      LOGGER.info("validation at step %d\n%s", self.step, report.table())
    else:
      shown = "  ".join(f"{name} {scalars[name]:.4f}" for name in _SHOWN if name in scalars)
      LOGGER.info("validation at step %d  %s", self.step, shown)
    if jax.process_index() == 0:
      write_json(self.setup.workdir / VALIDATION_FILE, {"step": self.step, **report.to_json()})
    return scalars.get(SCORE)

  def _report(self) -> Report | OrganismReports:
    """Measures the validation split of every organism."""
    stores = self.setup.organisms.stores
    params, stats = self._averaging.values(self.state)
    reports: dict[str, Report] = {}
    self._gene_models = {}
    for row, store in enumerate(stores):
      report = evaluate_on(
        self.mesh,
        lambda batch: self._predict(params, stats, batch),
        store,
        "validation",
        self.config,
        self.setup.organisms.table,
        progress=self._until_stopped,
        organism=row,
      )
      models = self._gene_fit.fit(report, store)
      reports[store.organism] = with_gene_models(report, store, models)
      self._gene_models[store.organism] = models.to_json()
    return OrganismReports(reports) if len(stores) > 1 else reports[stores[0].organism]

  def _until_stopped(self, batches: Iterable[Any]) -> Iterator[Any]:
    """Yields the batches of an evaluation until a signal comes."""
    for batch in batches:
      if self.interruption.requested():
        raise _Stopped
      yield batch

  def _save(self, score: float | None = None, more: Mapping[str, Any] | None = None) -> None:
    """Starts a save of this step, with what its evaluation gave, where it was measured."""
    self.watch.check(self._last_good())
    with self.clock.phase("checkpoint"):
      meta = {**self._meta(), **(more or {})}
      _, stats = self._averaging.values(self.state)
      self.checkpoints.save(self.step, state_items(self.state, stats), meta, score)
    self.saved = self.step

  def _meta(self) -> dict[str, Any]:
    """Returns the metadata of a checkpoint of this step."""
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
    """Saves the run and says how to continue it."""
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
    """Logs where the time went; returns it for the run's record."""
    done = self.step - self.first_step
    speed = self._speed(done / max(self.clock.outside(*NOT_STEPS), 1e-9))
    LOGGER.info("%d steps in %s", done, closing_text(self.clock))
    text, times = self.times.whole()
    LOGGER.info("on average %s%s", text, speed_text(speed))
    return {"step": self.step, "seconds": self.clock.elapsed(), **speed, "step_seconds": times}

  def _last_good(self) -> str:
    """Names the last good checkpoint, for an error message."""
    if self.saved is None:
      return "there is no checkpoint yet"
    return f"last good checkpoint: step {self.saved} in {self.checkpoints.directory}"


def state_items(state: TrainState, stats: Values | None = None) -> dict[str, Any]:
  """Returns the items of a checkpoint; prediction reads params and stats alone.

  Where averages are kept they are those of prediction, with `stats`, which are by default the
  state's; what training goes on from is then in train.
  """
  train = {"step": state.step, "opt_state": state.opt_state}
  if not state.average:
    return {"params": state.params, "stats": state.stats, "train": train}
  own = {name: state.params[name] for name in state.average}
  params, stats = {**state.params, **state.average}, state.stats if stats is None else stats
  return {"params": params, "stats": stats, "train": {**train, "params": own, "stats": state.stats}}


def items_state(items: dict[str, Any]) -> TrainState:
  """Returns the state that `state_items` took apart."""
  train, params = items["train"], items["params"]
  own, stats = train.get("params", {}), train.get("stats", items["stats"])
  average = {name: params[name] for name in own}
  return TrainState(train["step"], {**params, **own}, stats, train["opt_state"], average)
