"""From a configuration and a work directory to a trained model."""

import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from alphaecoli.checkpoints.read import CHECKPOINTS_DIR
from alphaecoli.checkpoints.write import Checkpoints, one_first
from alphaecoli.cli import reading_bar
from alphaecoli.errors import UserError
from alphaecoli.files import AnyPath, is_remote, write_json, write_text
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.batches import check_batch_size
from alphaecoli.parallel.distributed import of_every_process
from alphaecoli.parallel.hardware import memory_bytes, use_compilation_cache
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import HEADS, Config
from alphaecoli.tracks.organisms import Organisms, as_prepared, open_organisms
from alphaecoli.tracks.store import TrackStore
from alphaecoli.training.initialize import first_values, with_stores
from alphaecoli.training.loop import Loop, Setup, items_state, state_items
from alphaecoli.training.losses import active_heads
from alphaecoli.training.metrics_log import MetricsLog, Stopwatch, WandbRun, check_wandb
from alphaecoli.training.profiler import PROFILE_DIR, Profiler
from alphaecoli.training.resume import (
  Interruption,
  check_resumable,
  describe_start,
  record_end,
  record_start,
)
from alphaecoli.training.step import StepDefinition, TrainState, planned_bytes

LOGGER = logging.getLogger(__name__)
# What model.remat_policy "auto" chooses from, the fastest first, and the share of a device's memory
# that a step may plan for: the next batch lies there too, and memory in pieces is not all of use.
REMAT: tuple[dict[str, Any], ...] = (
  {"remat": False, "remat_policy": "blocks"},
  {"remat": True, "remat_policy": "products"},
  {"remat": True, "remat_policy": "blocks"},
)
MEMORY_SHARE = 0.9


def train(config: Config, workdir: AnyPath, profile: range | None = None) -> int:
  """Processes data if needed, then trains, evaluates and saves; continues a run that was stopped.

  Args:
    config: configuration of the run.
    workdir: receiver, here or in a bucket, of tracks/, checkpoints/, tensorboard/, config.json,
      run.json, metrics.jsonl and validation.json.
    profile: steps to trace into profile/.

  Returns:
    The exit status: 0, or EXIT_STOPPED where a signal ended the run, which is then saved.

  Raises:
    UserError: see the message.
  """
  make_directory(workdir)
  check_wandb(config.log.wandb)
  mesh = make_mesh(config.mesh)
  check_batch_size(config, mesh)
  with reading_bar() as show:
    organisms = one_first("track store", lambda: open_organisms(config, workdir, show))
  if config.data.stores:
    config = as_prepared(config, organisms.stores)
  if config.log.compilation_cache:
    use_compilation_cache(workdir / "jax_cache")
  config = settle_remat(config, organisms, mesh)
  functional = FunctionalModel.of_config(config, organisms.table)
  return train_on(organisms, config, workdir, functional, profile)


def settle_remat(config: Config, organisms: Organisms, mesh: Mesh) -> Config:
  """Settles `model.remat_policy` "auto": the first of `REMAT` whose step fits into memory.

  Steps are compiled to see what they need. Where devices do not tell their memory (CPUs, which gain
  nothing from recomputation), the first is taken; the last is without asking.
  """
  if config.model.recomputed != "auto":
    return config
  limit = min(memory_bytes(device).get("limit", 0) for device in jax.local_devices())
  for changes in REMAT:
    settled = dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))
    known = changes is REMAT[-1] or not limit
    fits = known or _step_bytes(settled, organisms, mesh) <= MEMORY_SHARE * limit
    if all(of_every_process(fits)):
      break
  LOGGER.info("the backward pass computes anew: %s", settled.model.recomputed or "nothing")
  return settled


def _step_bytes(config: Config, organisms: Organisms, mesh: Mesh) -> float:
  """Returns the memory that the compiler plans for a step; infinite where it finds too little."""
  definition = StepDefinition.of_config(config, organisms.table, mesh)
  inputs = definition.abstract_inputs(config, organisms.stores[0])
  try:
    with jax.set_mesh(mesh):
      return planned_bytes(definition.jit().lower(*inputs).compile()) or 0.0
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return float("inf")


def train_on(
  data: TrackStore | Organisms,
  config: Config,
  workdir: AnyPath,
  functional: FunctionalModel,
  profile: range | None = None,
) -> int:
  """Trains a model on a track store, or on several organisms'. See `train`."""
  clock = Stopwatch()
  mesh = make_mesh(config.mesh)
  organisms = data if isinstance(data, Organisms) else Organisms.of([data])
  setup = Setup(
    config=config,
    workdir=workdir,
    organisms=organisms,
    definition=StepDefinition.of_config(config, organisms.table, mesh, functional),
  )
  check_targets(setup)
  main = jax.process_index() == 0
  checkpoint = config.checkpoint
  with (
    Interruption() as interruption,
    jax.set_mesh(mesh),
    Checkpoints(
      workdir / CHECKPOINTS_DIR, keep_last=checkpoint.keep_last, keep_best=checkpoint.keep_best
    ) as checkpoints,
  ):
    state, origin, saved = start(setup, checkpoints)
    setup = dataclasses.replace(setup, origin=origin)
    step = int(state.step)
    if main:
      write_json(workdir / "config.json", config.to_dict())
      record_start(workdir, describe_start(step, config, mesh, organisms))
    project = config.log.wandb if main else ""
    with MetricsLog(
      workdir,
      step,
      config.log.tensorboard,
      tracker=WandbRun(project, workdir, config.to_dict()) if project else None,
      unmeasured=bool(saved and saved["unmeasured"]),
      active=main,
    ) as log:
      loop = Loop(
        setup,
        state,
        checkpoints,
        log,
        interruption,
        clock=clock,
        profiler=Profiler(workdir / PROFILE_DIR, profile if main else None),
        saved=saved,
      )
      status = loop.run()
    end = loop.close()
    if main:
      record_end(workdir, {"status": status, **end})
    if not status:
      say_what_next(workdir)
    return status


def check_targets(setup: Setup) -> None:
  """Warns of heads that learn nothing, and refuses a run in which none would.

  Raises:
    UserError: no head has both data and a weight, or the tracks' statistics are not finite.
  """
  config = setup.config
  weights = setup.definition.weights
  for head in HEADS:
    if getattr(config.loss.weights, head) and not getattr(weights, head):
      LOGGER.warning("the data have no %s: that head is not trained and not evaluated", head)
  if not active_heads(weights):
    raise UserError("no head has both data and a loss weight above 0: there is nothing to train")
  for store in setup.organisms.stores:
    table = store.table
    numbers = [t.mean for t in table.expression] + [t.std for t in table.expression]
    numbers += [table.density_mean, table.operon_prevalence]
    if not np.isfinite(numbers).all() or any(t.std <= 0 for t in table.expression):
      raise UserError(
        f"the statistics of {store.path} are not finite, or a standard deviation is 0; see its "
        "quality.json"
      )


def start(
  setup: Setup, checkpoints: Checkpoints
) -> tuple[TrainState, dict[str, Any], Mapping[str, Any] | None]:
  """Restores the state of the newest checkpoint, or makes the first one of the configuration.

  Returns:
    The state, what checkpoints say of the run's origin, and what the loop kept in the newest.

  Raises:
    ConfigError: the checkpoint is of another model, other tracks or other splits; or
      `init.checkpoint` does not fit.
    DataError: there are checkpoints and none can be read; or `init.checkpoint` can not be.
  """
  config, organisms, step = setup.config, setup.organisms, setup.definition
  LOGGER.info("parameters\n%s", step.functional.parameter_table())
  restored = checkpoints.restore_newest(
    state_items(step.abstract_state()),
    lambda meta: check_resumable(meta, config, organisms.fingerprint),
  )
  if restored is None:
    LOGGER.info("starting at step 0 on mesh %s", dict(step.mesh.shape))
    params, stats, origin = first_values(step.functional, config, organisms, step.mesh)
    return step.first_state(params, stats), origin, None
  checkpoints.delete_after(restored.step)
  LOGGER.info("continuing after step %d on mesh %s", restored.step, dict(step.mesh.shape))
  origin = {k: restored.meta[k] for k in ("init", "trained_on") if k in restored.meta}
  origin = {"trained_on": with_stores([], organisms.stores), **origin}
  return items_state(restored.items), origin, restored.meta.get("loop")


def make_directory(path: AnyPath) -> None:
  """Makes a directory that can be written to.

  Raises:
    UserError: it can not be made or written.
  """
  if is_remote(path):  # known by trying, before the hours that come first
    if jax.process_index() == 0:
      write_text(path / "writable", "")
      (path / "writable").unlink()
    return
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f"cannot make the work directory {path}: {error.strerror}") from error
  if not os.access(path, os.W_OK | os.X_OK):
    raise UserError(f"cannot write to the work directory {path}")


def say_what_next(workdir: AnyPath) -> None:
  """Logs the commands that follow a finished run."""
  LOGGER.info("held-out metrics:  python -m alphaecoli.evaluate --workdir %s --split test", workdir)
  LOGGER.info(
    "predicted tracks:  python -m alphaecoli.predict --checkpoint %s --fasta FILE --out DIRECTORY",
    workdir,
  )
