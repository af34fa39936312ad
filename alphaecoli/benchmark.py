"""Speed on this machine, or a step compiled for another: `python -m alphaecoli.benchmark PART`."""

import argparse
import gc
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphaecoli import cli
from alphaecoli.config import from_arguments
from alphaecoli.errors import ConfigError
from alphaecoli.schema import BIN_BP, Config

if TYPE_CHECKING:
  from alphaecoli.regulondb.records import Gene

LOGGER = logging.getLogger("alphaecoli")
_LONGEST_BP = 10**9  # no gene of any bacterium lies beyond it

DESCRIPTION = """\
Measures one part on this machine, or compiles for another, and prints JSON.

  bson      documents per second of geneExpression, against pymongo's bare decoding of it
  pipeline  augmented windows per second from the track store
  step      training steps of a configuration: time, bases per second, FLOP/s against the peak
  predict   bases per second of prediction with a freshly initialised model
  compile   the training step for a TPU slice that is not here: memory of a device and whether the
            step fits (exit status 1 if not), FLOPs, collectives; or its export for GPUs

The other arguments are a configuration: --config FILE --config.section.key=value
"""


def main(arguments: Sequence[str]) -> int:
  """Runs the command."""
  parser = cli.parser("benchmark", DESCRIPTION)
  add = parser.add_argument
  add("part", choices=list(PARTS))
  add("--repeats", type=int, default=5, help="measurements; the median counts (default 5)")
  add("--documents", type=int, default=1_000_000, help="bson: documents of the file that is made")
  add("--file", type=Path, help="bson: a geneExpression.bson of yours instead")
  add("--windows", type=int, default=1_000, help="pipeline: windows a measurement (default 1000)")
  add("--bases", type=int, default=1_000_000, help="predict: length of the sequence")
  add("--topology", help="compile: TPU slice, as v5e:4x4")
  add("--slices", type=int, default=1, help="compile: so many of them (default 1)")
  add("--quick", action="store_true", help="compile: in less time, a program not made as fast")
  add("--plan", action="store_true", help="compile: end when memory is planned: no machine code")
  add("--platform", choices=("tpu", "cuda"), default="tpu", help="compile: default tpu")
  add("--devices", type=int, default=8, help="compile: GPUs, with --platform cuda (default 8)")
  add("--workdir", type=Path, default=Path("runs/benchmark"), help="keeps the track store")
  add("--out", type=Path, help="also write the JSON here")
  flags, rest = parser.parse_known_args(arguments)
  if flags.repeats < 1:
    raise ConfigError(f"--repeats={flags.repeats}; expected at least 1")
  config, name = from_arguments(rest)
  result = {"part": flags.part, "config": name, **PARTS[flags.part](config, flags)}
  text = json.dumps(result, indent=2)
  print(text)
  if flags.out:
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    flags.out.write_text(text + "\n")
  return 0 if result.get("fits", True) else 1


def benchmark_bson(config: Config, flags: argparse.Namespace) -> dict[str, Any]:
  """Bare decoding and the whole reading in turn, and the memory of a process that only reads."""
  import bson

  from alphaecoli.regulondb.expression import read_expression
  from alphaecoli.regulondb.quality import QualityReport
  from alphaecoli.regulondb.records import read_genes
  from alphaecoli.tracks.process import input_files

  genes_file = input_files(config.data)["geneDatamart"]
  with tempfile.TemporaryDirectory() as folder:
    genes = read_genes(genes_file, _LONGEST_BP, QualityReport())
    path = flags.file or write_documents(
      Path(folder) / "geneExpression.bson", flags.documents, genes
    )
    counted = 0

    def bare() -> None:
      nonlocal counted
      counted = 0
      with open(path, "rb") as file:
        for _ in bson.decode_file_iter(file):
          counted += 1

    def read() -> None:
      read_expression(path, genes, QualityReport())

    seconds = _in_turn({"bare": bare, "read": read}, flags.repeats)
    peak = _peak_memory_of_reading(path, genes_file)
  return {
    "documents": counted,
    "bare_documents_per_s": counted / statistics.median(seconds["bare"]),
    "read_documents_per_s": counted / statistics.median(seconds["read"]),
    "ratio_read_to_bare": statistics.median(
      b / r for b, r in zip(seconds["bare"], seconds["read"], strict=True)
    ),
    "peak_resident_bytes": peak,
  }


def write_documents(path: Path, count: int, genes: Sequence["Gene"]) -> Path:
  """Writes a geneExpression file of RegulonDB's shape, data set after data set."""
  import bson

  with open(path, "wb") as file:
    for i in range(count):
      dataset, gene = f"GENE_EXPRESSION_SRR{i // len(genes):07d}", genes[i % len(genes)]
      name = f"{dataset}_{gene.locus_tag}"
      document = {
        "_id": name,
        "count": None,
        "datasetIds": [dataset],
        "fpkm": 8.586969,
        "tpm": (i * 7919) % 500_000 / 1000,
        "temporalId": name,
        "gene": {
          "_id": gene.id,
          "name": gene.name,
          "synonyms": [gene.name, f"ECK{i % len(genes):04d}"],
          "bnumber": gene.locus_tag,
          "leftEndPosition": gene.start + 1,
          "rightEndPosition": gene.end,
        },
      }
      file.write(bson.encode(document))
  return path


def _peak_memory_of_reading(path: Path, genes_file: Path) -> int:
  """Peak resident bytes of a fresh process that reads a file."""
  code = (
    "import resource, sys\n"
    "from alphaecoli.regulondb.expression import read_expression\n"
    "from alphaecoli.regulondb.quality import QualityReport\n"
    "from alphaecoli.regulondb.records import read_genes\n"
    "genes = read_genes(sys.argv[2], int(sys.argv[3]), QualityReport())\n"
    "read_expression(sys.argv[1], genes, QualityReport())\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
  )
  command = [sys.executable, "-c", code, str(path), str(genes_file), str(_LONGEST_BP)]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return int(done.stdout) * 1024  # Linux counts in KiB


def benchmark_pipeline(config: Config, flags: argparse.Namespace) -> dict[str, Any]:
  """Training batches as the loop takes them, without a step."""
  from alphaecoli.data.pipeline import training_batches
  from alphaecoli.tracks.organisms import open_organisms

  store = open_organisms(config, flags.workdir).stores[0]
  per_batch = config.train.batch_windows
  n_batches = max(flags.windows // per_batch, 1)

  def take() -> None:
    batches = training_batches(
      store,
      window_bp=config.data.window_bp,
      batch_windows=per_batch,
      seed=config.train.seed,
      reverse_complement=config.data.reverse_complement,
      threads=config.data.read_threads,
      prefetch=config.data.prefetch,
    )
    for _ in range(n_batches):
      next(batches)
    batches.close()

  seconds = statistics.median(_in_turn({"take": take}, flags.repeats)["take"])
  windows = n_batches * per_batch
  return {
    "window_bp": config.data.window_bp,
    "windows": windows,
    "threads": config.data.read_threads,
    "windows_per_s": windows / seconds,
    "bases_per_s": windows * config.data.window_bp / seconds,
  }


def benchmark_step(config: Config, flags: argparse.Namespace) -> dict[str, Any]:
  """The compiled training step on batches that already lie on the devices."""
  import jax

  from alphaecoli.data.pipeline import training_batches
  from alphaecoli.hardware import memory_bytes, peak_flops
  from alphaecoli.losses import active_weights
  from alphaecoli.model.skeleton import Skeleton
  from alphaecoli.sharding import make_mesh
  from alphaecoli.tracks.organisms import open_organisms
  from alphaecoli.training.batches import check_batch_size, put_batch
  from alphaecoli.training.optimizer import make_optimizer
  from alphaecoli.training.state import init_state
  from alphaecoli.training.step import compile_train_step, make_train_step

  mesh = make_mesh(config.mesh)
  check_batch_size(config, mesh)
  store = open_organisms(config, flags.workdir).stores[0]
  skeleton = Skeleton.of_model(config.model, store.table).tuned(config.init)
  optimizer = make_optimizer(config.optimizer, config.train.steps)
  with jax.set_mesh(mesh):
    batches = training_batches(
      store,
      window_bp=config.data.window_bp,
      batch_windows=config.train.batch_windows,
      seed=config.train.seed,
      reverse_complement=config.data.reverse_complement,
    )
    batch = put_batch(next(batches), mesh)
    batches.close()
    state = init_state(skeleton, optimizer, config.train.seed, mesh)
    step = compile_train_step(
      make_train_step(
        skeleton,
        optimizer,
        active_weights(config.loss.weights, store.table),
        accumulate_steps=config.train.accumulate_steps,
        dropout=config.model.head_dropout > 0,
      ),
      skeleton,
      optimizer,
      mesh,
    )
    key = jax.random.key(config.train.seed)
    started = time.perf_counter()
    compiled = step.lower(state, batch, key).compile()  # type: ignore[attr-defined]
    compile_s = time.perf_counter() - started

    def run(count: int = 1) -> None:
      nonlocal state
      for _ in range(count):
        state, _ = compiled(state, batch, key)
      jax.block_until_ready(state)

    run(2)
    each = max(int(1.0 / max(_seconds(run), 1e-6)), 1)  # about a second a measurement
    seconds = [_seconds(lambda: run(each)) / each for _ in range(flags.repeats)]
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
  """FLOP/s per device by the compiler's count, recomputed work included, against the peak."""
  flops = (compiled.cost_analysis() or {}).get("flops")
  if not flops:
    return {}
  result = {"flops_per_step_and_device": flops, "flops_per_s_and_device": flops / step_s}
  if peak:
    result |= {"peak_flops_per_s": peak, "hardware_flops_utilisation": flops / step_s / peak}
  return result


def benchmark_predict(config: Config, flags: argparse.Namespace) -> dict[str, Any]:
  """Whole-sequence prediction, tiles and transfers included."""
  import jax
  import numpy as np
  from flax import nnx

  from alphaecoli.inference.forward import CompiledModel
  from alphaecoli.inference.load import default_batch
  from alphaecoli.inference.predictor import Predictor
  from alphaecoli.model.model import AlphaEcoli
  from alphaecoli.tracks.organisms import open_organisms

  table = open_organisms(config, flags.workdir).table
  devices = jax.local_devices()
  model = AlphaEcoli(config.model, table, rngs=nnx.Rngs(config.train.seed))
  predictor = Predictor(
    CompiledModel(model, table, devices),
    table,
    window_bp=config.data.window_bp,
    batch_windows=default_batch(config.data.window_bp, devices),
  )
  length = max(flags.bases // BIN_BP, 1) * BIN_BP
  sequence = np.random.default_rng(0).integers(0, 4, length).astype(np.uint8)
  predictor.predict(sequence[: config.data.window_bp])  # compiles
  timed = _in_turn({"predict": lambda: predictor.predict(sequence, circular=True)}, flags.repeats)
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


def compile_elsewhere(config: Config, flags: argparse.Namespace) -> dict[str, Any]:
  """The training step for a machine that is not here."""
  from alphaecoli import ahead_of_time
  from alphaecoli.tracks.organisms import open_organisms

  if flags.platform == "cuda":
    if flags.topology:
      raise ConfigError("--topology is of TPUs; with --platform=cuda give --devices")
    ahead_of_time.stand_in_for_gpus(flags.devices)
    store = open_organisms(config, flags.workdir).stores[0]
    return {"platform": "cuda", **ahead_of_time.lower_for_cuda(config, store, flags.devices)}
  if not flags.topology:
    raise ConfigError("compile needs --topology, such as v5e:4x4, or --platform=cuda")
  ahead_of_time.use_without_chips()
  store = open_organisms(config, flags.workdir).stores[0]
  figures = ahead_of_time.compile_for_tpu(
    config, store, flags.topology, slices=flags.slices, quick=flags.quick, plan=flags.plan
  )
  return {"platform": "tpu", **figures}


def _seconds(action: Callable[[], Any]) -> float:
  """How long a call takes."""
  started = time.perf_counter()
  action()
  return time.perf_counter() - started


def _in_turn(actions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
  """Times actions one after the other, over and over, so that drift hits all alike."""
  for action in actions.values():
    action()
  seconds: dict[str, list[float]] = {name: [] for name in actions}
  for i in range(repeats):
    for name, action in actions.items():
      gc.collect()
      seconds[name].append(_seconds(action))
    LOGGER.info("measured %d of %d", i + 1, repeats)
  return seconds


PARTS = {
  "bson": benchmark_bson,
  "pipeline": benchmark_pipeline,
  "step": benchmark_step,
  "predict": benchmark_predict,
  "compile": compile_elsewhere,
}

if __name__ == "__main__":
  cli.run(main)
