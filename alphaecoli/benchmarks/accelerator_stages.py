"""What launch/accelerator.sh does on the accelerator, part by part; `accelerator` runs them."""

import argparse
import dataclasses
import functools
import gc
import json
import math
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from alphaecoli.benchmarks import step as timing
from alphaecoli.benchmarks.accelerator_table import relative_error, within
from alphaecoli.benchmarks.data import seconds_of
from alphaecoli.config import TEST_MODE, configs_dir, load
from alphaecoli.errors import UserError, reason_of
from alphaecoli.schema import BIN_BP, PAIR_BP, Config, ModelConfig

Figures = dict[str, Any]


MEASURED = "regulondb.py"  # whose step and prediction are timed
GENOME_BP, LONGEST_BP, TRUNK_BP = 4_641_652, 1 << 20, 16_384  # E. coli K-12 MG1655's genome
BFLOAT16_TOLERANCE = 1e-2  # of a convolution and its gradients, relative root mean square
FLOAT32_TOLERANCE = 1e-4  # between a CPU and the accelerator, at the highest precision
SMALL_BP = 4_096
_SMALL = {**TEST_MODE, "data.window_bp": SMALL_BP, "model.n_layers": 1}
TRACE, WEIGHTS = "trace", "weights"  # folders of the work folder; the first a part too
TRACE_AFTER = 2  # settings of the step: one takes minutes to compile, and a trace tells most


@dataclasses.dataclass(frozen=True)
class Run:
  """What a part knows of the run.

  Attributes:
    work: folder of notes, stores, checkpoints and compiled programs.
    rehearse: whether sizes are small and a CPU will do.
    recipe: configuration of the training.
    noted: figures of the parts of this stage that are done, by name.
  """

  work: Path
  rehearse: bool
  recipe: Config
  noted: Mapping[str, Figures]

  def config(self, changes: Mapping[str, Any]) -> Config:
    """Returns the configuration that is timed, on the recipe's data; small for a rehearsal."""
    if self.rehearse:
      changes = {**_SMALL, **changes, "train.batch_windows": 2}
    config = load(configs_dir() / MEASURED, changes)
    data = dataclasses.replace(self.recipe.data, window_bp=config.data.window_bp)
    return dataclasses.replace(config, data=data)

  def flags(self, **more: Any) -> argparse.Namespace:
    """Returns the flags of a part of alphaecoli.benchmark."""
    return argparse.Namespace(workdir=self.work, repeats=1 if self.rehearse else 3, **more)


def parts_of(stage: str, run: Run) -> dict[str, Callable[[Run], Figures]]:
  """Returns the parts of a stage by name, in their order."""
  if stage == "step":
    grid = timing.GRID[1:2] if run.rehearse else timing.GRID
    variants = [(v.name, functools.partial(time_step, variant=v)) for v in grid]
    return dict([*variants[:TRACE_AFTER], (TRACE, trace_best), *variants[TRACE_AFTER:]])
  if stage == "train":
    folds = range(2 if run.rehearse else run.recipe.data.n_folds)
    return {f"fold_{k}": functools.partial(train_fold, fold=k) for k in folds}
  stages: dict[str, dict[str, Callable[[Run], Figures]]] = {
    "device": {"device": describe_device},
    "checks": {"convolutions": check_convolutions, "blocks": check_blocks},
    "predict": {
      "genome": functools.partial(time_prediction, bases=GENOME_BP, one_window=False),
      "1 Mb window": functools.partial(time_prediction, bases=LONGEST_BP, one_window=True),
    },
    "trunk": {"trunk": check_trunk},
  }
  return stages[stage]


def describe_device(run: Run) -> Figures:
  """Names the device and the software; measures the rates of a matrix product and of a copy.

  Raises:
    UserError: JAX finds no accelerator.
  """
  import jax
  import jax.numpy as jnp

  from alphaecoli.checkpoints.read import describe_format
  from alphaecoli.parallel.hardware import memory_bytes, peak_flops

  device = jax.devices()[0]
  if device.platform == "cpu" and not run.rehearse:
    raise UserError(
      "JAX finds no accelerator here, only the CPU; --rehearse runs small sizes on it"
    )
  n = 512 if run.rehearse else 8192
  matrix = jax.random.normal(jax.random.key(0), (n, n), jnp.bfloat16)
  long = jnp.ones((n * n * 8,), jnp.float32)

  def rate(function: Callable[[Any], Any], value: Any, work: float) -> float:
    def calls() -> None:
      for _ in range(10):  # one result at a time is kept: ten may not fit
        last = function(value)
      jax.block_until_ready(last)

    calls()
    return 10 * work / min(seconds_of(calls) for _ in range(3))

  return {
    "device": device.device_kind,
    "platform": device.platform,
    "devices": jax.device_count(),
    "platform_version": device.client.platform_version,
    "python": sys.version.split()[0],
    "versions": describe_format()["versions"],
    "memory_bytes": memory_bytes(device),
    "peak_bf16_flops_per_s": peak_flops(device),
    "measured_bf16_flops_per_s": rate(jax.jit(lambda a: a @ a), matrix, 2 * n**3),
    "measured_bytes_per_s": rate(jax.jit(lambda x: x + 1), long, 2 * long.nbytes),
  }


def check_convolutions(run: Run) -> Figures:
  """Compares bfloat16 convolutions of the model, and their gradients, with float32 ones.

  A shape that the device's library refuses has an `error` instead (jax#37922).
  """
  import jax
  import jax.numpy as jnp

  from alphaecoli.model.convolutions import level_channels
  from alphaecoli.model.layers import convolve

  def with_gradients(x: Any, kernel: Any, cotangent: Any) -> Figures:
    output, backward = jax.vjp(convolve, x, kernel)
    return dict(zip(("output", "input", "kernel"), (output, *backward(cotangent)), strict=True))

  model = run.config({}).model
  first, second, *_, last = level_channels(model)
  found: dict[str, Figures] = {}
  for n_in, n_out in ((4, first), (first, first), (first, second), (last, last)):
    width, length = (model.first_conv_width if n_in == 4 else model.conv_width), 1024
    shapes = ((2, length, n_in), (width, n_in, n_out), (2, length, n_out))
    keys = jax.random.split(jax.random.key(0), 3)
    operands = [
      jax.random.normal(k, shape, jnp.bfloat16) for k, shape in zip(keys, shapes, strict=True)
    ]
    with jax.default_matmul_precision("highest"):
      want = jax.jit(with_gradients)(*(operand.astype(jnp.float32) for operand in operands))
    try:
      got = jax.jit(with_gradients)(*operands)
      entry: Figures = {name: relative_error(got[name], want[name]) for name in want}
    except jax.errors.JaxRuntimeError as error:
      entry = {"error": reason_of(error, 300)}
    found[f"{width} x {n_in} x {n_out}"] = entry
  good = all("error" not in e and within(e, BFLOAT16_TOLERANCE) for e in found.values())
  return {"good": good, "errors": found}


def check_blocks(run: Run) -> Figures:
  """Compares small blocks, and their gradients, with the CPU's, in float32.

  At the highest precision they must agree; JAX's default may be less (TF32 on NVIDIA's chips).
  """
  import jax

  here, cpu = jax.devices()[0], jax.local_devices(backend="cpu")[0]
  with jax.default_device(cpu):  # it compiles the many small programs that make them soonest
    compute, operands = _small_blocks(load(configs_dir() / MEASURED, _SMALL).model)

  def values(device: Any, precision: str) -> Figures:
    with jax.default_matmul_precision(precision):
      return jax.device_get(jax.jit(compute)(jax.device_put(operands, device)))

  want = values(cpu, "highest")
  found: dict[str, dict[str, float]] = {}
  for precision in ("highest", "default"):
    got = values(here, precision)
    found[precision] = {name: relative_error(got[name], want[name]) for name in want}
  return {"good": within(found["highest"], FLOAT32_TOLERANCE), "errors": found}


def _small_blocks(c: ModelConfig) -> tuple[Callable[[Any], Figures], Figures]:
  """Makes blocks with random values.

  Returns:
    A function from all operands to each block's outputs and gradients, and the operands.
  """
  import jax
  import jax.numpy as jnp
  from flax import nnx

  from alphaecoli.model import convolutions, heads, pair, transformer
  from alphaecoli.model.layers import Keys

  rngs, n, n_pairs = Keys(jax.random.key(0)), SMALL_BP // BIN_BP, SMALL_BP // PAIR_BP
  shapes = [(1, 256, 24), (1, 512, 16), (1, n, 32), (1, n_pairs, n_pairs, c.pair_channels)]
  shapes.append((1, c.n_heads, n_pairs, n_pairs))
  x, wide, bins, pairs, bias = (jax.random.normal(rngs.params(), shape) for shape in shapes)
  blocks = {
    "down": (convolutions.DownBlock(24, 32, c, rngs=rngs), (x,)),
    "up": (convolutions.UpBlock(24, 16, c, rngs=rngs), (x, wide)),
    "attention bias": (transformer.AttentionBias(c, rngs=rngs), (pairs,)),
    "attention": (transformer.MultiQueryAttention(32, c, rngs=rngs), (bins, bias)),
    "mlp": (transformer.MLP(32, c, rngs=rngs), (bins,)),
    "pair update": (pair.PairUpdate(32, c, rngs=rngs), (bins, pairs)),
    "embedder": (heads.OutputEmbedder(32, 0, c, rngs=rngs), (bins, jnp.zeros((1,), jnp.int32))),
  }
  made = {name: nnx.split(block) for name, (block, _) in blocks.items()}
  graphs = {name: graph for name, (graph, _) in made.items()}
  operands = {name: (state, blocks[name][1]) for name, (_, state) in made.items()}

  def compute(operands: Figures) -> Figures:
    def loss(state: Any, name: str, inputs: Any) -> Any:
      outputs = nnx.merge(graphs[name], state)(*inputs)
      return sum(jnp.square(leaf).mean() for leaf in jax.tree.leaves(outputs)), outputs

    found: Figures = {}
    for name, (state, inputs) in operands.items():
      gradients, outputs = jax.grad(loss, has_aux=True)(state, name, inputs)
      found |= {name: outputs, f"{name}, gradients": gradients}
    return found

  return compute, operands


def check_trunk(run: Run) -> Figures:
  """Compares the trunk at the published size with the CPU's, in float32, with random values."""
  import jax
  import numpy as np

  from alphaecoli.model.alphagenome import PUBLISHED
  from alphaecoli.model.functional import FunctionalModel
  from alphaecoli.tracks.organisms import open_organisms

  config, table = run.config({}), open_organisms(run.config({}), run.work).table
  model, window_bp = (config.model, SMALL_BP) if run.rehearse else (PUBLISHED, TRUNK_BP)
  model = dataclasses.replace(model, compute_dtype="float32", remat=False)
  functional, rng = FunctionalModel.of_model(model, table), np.random.default_rng(0)

  def fill(name: str, shape: tuple[int, ...]) -> Any:
    if name.endswith(("kernel", "table")):
      reach = math.sqrt(3 / math.prod(shape[:-1]))
      return (rng.random(shape, np.float32) * 2 - 1) * np.float32(reach)
    return np.full(shape, float(name.endswith("scale")), np.float32)

  params = {k: fill(k, v.get_value().shape) for k, v in functional.params.items()}
  stats = {k: np.ones(v.get_value().shape, np.float32) for k, v in functional.stats.items()}
  codes = rng.integers(0, 4, (1, window_bp)).astype(np.uint8)

  def embed(params: Any, stats: Any, codes: Any, organism: Any) -> Figures:
    return functional.merge(params, stats).embed(codes, organism)._asdict()

  def run_on(device: Any) -> tuple[Figures, float]:
    values = jax.device_put((params, stats, codes, np.zeros((1,), np.int32)), device)
    with jax.default_matmul_precision("highest"):
      compiled = jax.jit(embed).lower(*values).compile()
    got: Figures = {}
    seconds = seconds_of(lambda: got.update(jax.device_get(compiled(*values))))
    return got, seconds

  devices = (jax.devices()[0], jax.local_devices(backend="cpu")[0])
  with ThreadPoolExecutor(2) as pool:  # the two compile side by side
    (got, seconds), (want, cpu_seconds) = pool.map(run_on, devices)
  errors = {name: relative_error(got[name], want[name]) for name in want}
  return {
    "good": within(errors, FLOAT32_TOLERANCE),
    "parameters": sum(value.size for value in params.values()),
    "seconds": seconds,
    "cpu_seconds": cpu_seconds,
    "errors": errors,
  }


def time_step(run: Run, variant: timing.Variant, trace: Path | None = None) -> Figures:
  """Times the training step in one setting."""
  import jax

  jax.clear_caches()  # frees the programs of the settings before
  gc.collect()
  config = run.config(variant.changes)
  return {"changes": dict(variant.changes), **timing.benchmark_step(config, run.flags(trace=trace))}


def trace_best(run: Run) -> Figures:
  """Times the best setting once more and traces three of its steps.

  Raises:
    UserError: no setting ran, or JAX's profiler wrote nothing.
  """
  best = timing.best_variant(run.noted)
  if best is None:
    raise UserError("no setting of the step ran, so none is traced")
  (variant,) = (v for v in timing.GRID if v.name == best)
  found = time_step(run, variant, run.work / TRACE)
  if not any((run.work / TRACE).rglob("*.xplane.pb")):
    raise UserError("JAX's profiler wrote no trace; see the log")
  return {"best": best, **found}


def time_prediction(run: Run, bases: int, one_window: bool) -> Figures:
  """Times prediction of so many bases, in tiles or as one window; transfers included."""
  import jax

  bases = 2 * SMALL_BP if run.rehearse else bases
  changes = {"data.window_bp": bases} if one_window else {}
  with jax.default_device(jax.local_devices(backend="cpu")[0]):  # for the parameters' first values
    return timing.benchmark_predict(run.config(changes), run.flags(bases=bases))


def train_fold(run: Run, fold: int) -> Figures:
  """Trains and measures a fold of the recipe, and writes its parameters in bfloat16.

  Raises:
    UserError: see the message.
  """
  from alphaecoli.checkpoints.packed import write_packed
  from alphaecoli.checkpoints.read import open_checkpoint
  from alphaecoli.checkpoints.write import write_ensemble
  from alphaecoli.evaluation.folds import evaluate_fold, fold_config, fold_folder
  from alphaecoli.tracks.splits import TEST
  from alphaecoli.training.resume import is_finished
  from alphaecoli.training.run import train

  workdir = run.work / "train"
  config, folder = fold_config(run.recipe, workdir, fold), fold_folder(workdir, fold)
  log = dataclasses.replace(config.log, compilation_cache=False)  # this process has one
  config = dataclasses.replace(config, log=log)
  if not is_finished(folder, config) and train(config, folder):
    raise UserError("stopped by a signal")
  evaluate_fold(folder, TEST)
  best, weights = open_checkpoint(folder), run.work / WEIGHTS
  values = dict(zip(("params", "stats"), best.values(), strict=True))
  write_packed(fold_folder(weights, fold), best.meta, values, "bfloat16")
  done = [fold_folder(weights, int(name.removeprefix("fold_"))) for name in run.noted]
  if done:
    write_ensemble(weights, [*done, fold_folder(weights, fold)])
  report = json.loads((folder / f"evaluation_{TEST}.json").read_text())
  end = json.loads((folder / "run.json").read_text())["starts"][-1]["end"]
  return {"config": config.to_dict(), "run": end, "metrics": report["metrics"]}
