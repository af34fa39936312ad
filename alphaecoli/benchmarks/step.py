"""Speed of the training step and of prediction."""

import argparse
import dataclasses
import statistics
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from alphaecoli.benchmarks.data import in_turn, seconds_of
from alphaecoli.schema import BIN_BP, Config

TRACED_STEPS = 3


@dataclasses.dataclass(frozen=True)
class Variant:
  """A setting of the training step that is measured.

  Attributes:
    name: words for the table.
    changes: values of the configuration that it sets.
    comparable: whether it is the same training, only faster or slower, and may be picked.
  """

  name: str
  changes: Mapping[str, Any]
  comparable: bool = True


# In the order of what is to be known first. A new option of the step is one more line.
GRID = (
  Variant("remat, 16 windows", {"model.remat": True, "train.batch_windows": 16}),
  Variant("16 windows", {"model.remat": False, "train.batch_windows": 16}),
  Variant(
    "remat but of products, 16 windows",
    {"model.remat": True, "model.remat_policy": "products", "train.batch_windows": 16},
  ),
  Variant("8 windows", {"model.remat": False, "train.batch_windows": 8}),
  Variant("24 windows", {"model.remat": False, "train.batch_windows": 24}),
  Variant(
    "16 windows, no head dropout",
    {"model.remat": False, "train.batch_windows": 16, "model.head_dropout": 0.0},
    comparable=False,
  ),
  Variant(
    "16 windows, head dropout by window",
    {"model.remat": False, "train.batch_windows": 16, "model.head_dropout_of": "window"},
    comparable=False,
  ),
  Variant("remat, 48 windows", {"model.remat": True, "train.batch_windows": 48}),
  Variant(
    "8 windows, float32",
    {"model.remat": False, "train.batch_windows": 8, "model.compute_dtype": "float32"},
    comparable=False,
  ),
)


def best_variant(noted: Mapping[str, Mapping[str, Any]]) -> str | None:
  """Returns the name of the comparable variant with most bases a second; None where none ran."""
  rates = {v.name: noted[v.name]["bases_per_s"] for v in GRID if v.comparable and v.name in noted}
  return max(rates, key=lambda name: rates[name], default=None)


def benchmark_step(config: Config, flags: argparse.Namespace) -> dict[str, Any]:
  """Times the compiled training step on batches that already lie on the devices; may trace it."""
  import jax

  from alphaecoli.benchmarks.compile import counted_in_loop
  from alphaecoli.data.pipeline import configured_batches
  from alphaecoli.parallel.batches import check_batch_size, put_batch
  from alphaecoli.parallel.hardware import memory_bytes, peak_flops
  from alphaecoli.parallel.sharding import make_mesh
  from alphaecoli.tracks.organisms import open_organisms
  from alphaecoli.training.profiler import model_flops, utilisation
  from alphaecoli.training.run import settle_remat
  from alphaecoli.training.step import StepDefinition, planned_bytes

  mesh = make_mesh(config.mesh)
  check_batch_size(config, mesh)
  organisms = open_organisms(config, flags.workdir)
  store, config = organisms.stores[0], settle_remat(config, organisms, mesh)
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
    if flags.trace:
      with jax.profiler.trace(str(flags.trace)):
        run(TRACED_STEPS)
  device = mesh.devices.flat[0]
  windows, window_bp = config.train.batch_windows, config.data.window_bp
  flops = model_flops(definition.functional, windows, window_bp)
  second, bases = statistics.median(seconds), windows * window_bp
  return {
    "device": device.device_kind,
    "devices": mesh.size,
    "mesh": dict(mesh.shape),
    "parameters": sum(value.size for value in state.params.values()),
    "window_bp": window_bp,
    "batch_windows": windows,
    "remat": config.model.recomputed,
    "compile_s": compile_s,
    "step_s": second,
    "step_s_min": min(seconds),
    "windows_per_s": windows / second,
    "bases_per_s": bases / second,
    "memory_bytes": memory_bytes(device),
    "planned_bytes": planned_bytes(compiled),
    "model_flops_per_step": flops,
    **utilisation(flops / second, mesh),
    **_hardware_utilisation(compiled, counted_in_loop(config, store), second, peak_flops(device)),
  }


def _hardware_utilisation(
  compiled: Any, loop_factor: float, step_s: float, peak: float | None
) -> dict[str, Any]:
  """Returns FLOP/s per device by the compiler's count, recomputed work included, and the peak."""
  cost = compiled.cost_analysis() or {}
  flops, moved = (cost.get(name, 0) * loop_factor for name in ("flops", "bytes accessed"))
  if flops <= 0:  # some compilers do not tell
    return {}
  result = {"flops_per_step_and_device": flops, "flops_per_s_and_device": flops / step_s}
  result |= {"bytes_per_step_and_device": moved} if moved > 0 else {}
  if peak:
    result |= {"peak_flops_per_s": peak, "hardware_flops_utilisation": flops / step_s / peak}
  return result


def benchmark_predict(config: Config, flags: argparse.Namespace) -> dict[str, Any]:
  """Times whole-sequence prediction, tiles and transfers included.

  A sequence as long as the model's window is one window, any other a circle cut into tiles. With
  `--contig-bp` it is cut into linear contigs, timed beside a whole window for each of them.
  """
  import jax
  import numpy as np

  from alphaecoli.inference.compiled import CompiledModel
  from alphaecoli.inference.prediction import Request
  from alphaecoli.inference.predictor import Predictor
  from alphaecoli.inference.tiling import tile_length
  from alphaecoli.model.layers import Keys
  from alphaecoli.model.model import AlphaEcoli
  from alphaecoli.parallel.hardware import default_batch, memory_bytes
  from alphaecoli.tracks.organisms import open_organisms

  table = open_organisms(config, flags.workdir).table
  devices = jax.local_devices()
  model = AlphaEcoli(config.model, table, rngs=Keys(jax.random.key(config.train.seed)))
  predictor = Predictor(
    CompiledModel.of(model, table, devices),
    table,
    window_bp=config.data.window_bp,
    batch_windows=default_batch(config.data.window_bp, devices),
  )
  length = max(flags.bases // BIN_BP, 1) * BIN_BP
  sequence = np.random.default_rng(0).integers(0, 4, length).astype(np.uint8)
  whole = length == config.data.window_bp

  contig_bp, window_bp = getattr(flags, "contig_bp", None), config.data.window_bp
  step_bp = contig_bp or length
  contigs = [sequence[at : at + step_bp] for at in range(0, length, step_bp)]

  def predict() -> None:
    if contig_bp:
      deque(predictor.predict_many(Request(codes, False) for codes in contigs), maxlen=0)
    else:
      predictor.predict(sequence, circular=not whole, one_window=whole)

  def predict_whole_windows() -> None:
    windows = ((i, np.resize(codes, window_bp)) for i, codes in enumerate(contigs))
    deque(predictor.run_windows(windows), maxlen=0)

  tile_bp = tile_length(step_bp, window_bp, predictor.margin_bp)
  compile_s = seconds_of(lambda: predictor.predict(sequence[:tile_bp]))
  actions = {"predict": predict} | ({"windows": predict_whole_windows} if contig_bp else {})
  times = in_turn(actions, flags.repeats)
  seconds = statistics.median(times["predict"])
  compared = {}
  if contig_bp:
    windows_s = statistics.median(times["windows"])
    compared = {
      "contigs": len(contigs),
      "whole_windows_s": windows_s,
      "ratio_to_whole_windows": seconds / windows_s,
    }
  return {
    **compared,
    "device": devices[0].device_kind,
    "devices": len(devices),
    "window_bp": config.data.window_bp,
    "margin_bp": predictor.margin_bp,
    "batch_windows": predictor.batch_windows,
    "bases": length,
    "first_s": compile_s,
    "seconds": seconds,
    "bases_per_s": length / seconds,
    "memory_bytes": memory_bytes(devices[0]),
  }


def speed_tables(
  steps: Mapping[str, Mapping[str, Any]],
  predictions: Mapping[str, Mapping[str, Any]],
  device: Mapping[str, Any],
) -> list[str]:
  """Formats results of `benchmark_step` and `benchmark_predict` by name as lines of Markdown.

  Args:
    steps: settings of the step.
    predictions: predictions.
    device: with `measured_bf16_flops_per_s` and `measured_bytes_per_s`, to tell what limits a step.
  """
  columns = ["step", "compiled in s", "ms", "windows/s", "bases/s", "TFLOP/s, model", "MFU"]
  columns += ["GiB, planned", "ms for its FLOPs", "ms for its bytes"]
  head = ["", f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
  lines = head if steps else []
  for name, s in steps.items():
    floors = [
      _text(s.get(f"{kind}_per_step_and_device"), ".0f", 1e-3 * device.get(rate, 0))
      for kind, rate in (("flops", "measured_bf16_flops_per_s"), ("bytes", "measured_bytes_per_s"))
    ]
    row = [f"{name} ({s['best']})" if "best" in s else name, f"{s['compile_s']:.0f}"]
    row += [f"{1e3 * s['step_s']:.1f}", f"{s['windows_per_s']:.1f}", f"{s['bases_per_s']:,.0f}"]
    row += [_text(s["model_flops_per_s_and_device"], ".1f", 1e12), _text(s.get("mfu"), ".1%")]
    lines.append(f"| {' | '.join([*row, _text(s['planned_bytes'], '.1f', 2**30), *floors])} |")
  if predictions:
    lines += ["", "| prediction | window, bp | bases | s | bases/s |", "| --- |" + " --- |" * 4]
  for name, p in predictions.items():
    row = [name, f"{p['window_bp']:,}", f"{p['bases']:,}", f"{p['seconds']:.2f}"]
    lines.append(f"| {' | '.join(row)} | {p['bases_per_s']:,.0f} |")
  return lines


def _text(value: float | None, form: str, unit: float = 1.0) -> str:
  """Formats a value in a unit; a dash where there is none."""
  return format(value / unit, form) if value is not None and unit else "–"
