"""Speed of the training step and of prediction."""

import argparse
import statistics
import time
from typing import Any

from alphaecoli.benchmarks.data import in_turn, seconds_of
from alphaecoli.schema import BIN_BP, Config


def benchmark_step(config: Config, flags: argparse.Namespace) -> dict[str, Any]:
  """Times the compiled training step on batches that already lie on the devices."""
  import jax

  from alphaecoli.data.pipeline import configured_batches
  from alphaecoli.parallel.batches import check_batch_size, put_batch
  from alphaecoli.parallel.hardware import memory_bytes, peak_flops
  from alphaecoli.parallel.sharding import make_mesh
  from alphaecoli.tracks.organisms import open_organisms
  from alphaecoli.training.step import StepDefinition

  mesh = make_mesh(config.mesh)
  check_batch_size(config, mesh)
  store = open_organisms(config, flags.workdir).stores[0]
  definition = StepDefinition.of_config(config, store.table, mesh)
  with jax.set_mesh(mesh):
    with configured_batches(store, config) as batches:
      batch = put_batch(next(batches), mesh)
    state = definition.init_state(config.train.seed)
    key = jax.random.key(config.train.seed)
    started = time.perf_counter()
    compiled = definition.jit().lower(state, batch, key).compile()
    compile_s = time.perf_counter() - started

    def run(count: int = 1) -> None:
      nonlocal state
      for _ in range(count):
        state, _ = compiled(state, batch, key)
      jax.block_until_ready(state)

    run(2)
    each = max(int(1.0 / max(seconds_of(run), 1e-6)), 1)  # about a second a measurement
    seconds = [seconds_of(lambda: run(each)) / each for _ in range(flags.repeats)]
  device = mesh.devices.flat[0]
  second, bases = statistics.median(seconds), config.train.batch_windows * config.data.window_bp
  return {
    "device": device.device_kind,
    "devices": mesh.size,
    "mesh": dict(mesh.shape),
    "parameters": sum(value.size for value in state.params.values()),
    "window_bp": config.data.window_bp,
    "batch_windows": config.train.batch_windows,
    "compile_s": compile_s,
    "step_s": second,
    "step_s_min": min(seconds),
    "windows_per_s": config.train.batch_windows / second,
    "bases_per_s": bases / second,
    "memory_bytes": memory_bytes(device),
    **_utilisation(compiled, second, peak_flops(device)),
  }


def _utilisation(compiled: Any, step_s: float, peak: float | None) -> dict[str, Any]:
  """Returns FLOP/s per device by the compiler's count, recomputed work included, and the peak."""
  flops = (compiled.cost_analysis() or {}).get("flops")
  if not flops:
    return {}
  result = {"flops_per_step_and_device": flops, "flops_per_s_and_device": flops / step_s}
  if peak:
    result |= {"peak_flops_per_s": peak, "hardware_flops_utilisation": flops / step_s / peak}
  return result


def benchmark_predict(config: Config, flags: argparse.Namespace) -> dict[str, Any]:
  """Times whole-sequence prediction, tiles and transfers included."""
  import jax
  import numpy as np

  from alphaecoli.inference.compiled import CompiledModel, default_batch
  from alphaecoli.inference.predictor import Predictor
  from alphaecoli.model.layers import Keys
  from alphaecoli.model.model import AlphaEcoli
  from alphaecoli.tracks.organisms import open_organisms

  table = open_organisms(config, flags.workdir).table
  devices = jax.local_devices()
  model = AlphaEcoli(config.model, table, rngs=Keys(jax.random.key(config.train.seed)))
  predictor = Predictor(
    CompiledModel(model, table, devices),
    table,
    window_bp=config.data.window_bp,
    batch_windows=default_batch(config.data.window_bp, devices),
  )
  length = max(flags.bases // BIN_BP, 1) * BIN_BP
  sequence = np.random.default_rng(0).integers(0, 4, length).astype(np.uint8)
  predictor.predict(sequence[: config.data.window_bp])  # compiles
  timed = in_turn({"predict": lambda: predictor.predict(sequence, circular=True)}, flags.repeats)
  seconds = statistics.median(timed["predict"])
  return {
    "device": devices[0].device_kind,
    "devices": len(devices),
    "window_bp": config.data.window_bp,
    "margin_bp": predictor.margin_bp,
    "batch_windows": predictor.batch_windows,
    "bases": length,
    "bases_per_s": length / seconds,
  }
