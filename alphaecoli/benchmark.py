"""Speed on this machine, or a step compiled for another: `python -m alphaecoli.benchmark PART`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alphaecoli import cli
from alphaecoli.benchmarks.data import benchmark_bson, benchmark_pipeline
from alphaecoli.benchmarks.step import benchmark_predict, benchmark_step
from alphaecoli.config import from_arguments
from alphaecoli.errors import ConfigError
from alphaecoli.schema import Config

DESCRIPTION = """\
Measures one part on this machine, or compiles for another, and prints JSON.

  bson      documents per second of geneExpression, against pymongo's bare decoding of it
  pipeline  augmented windows per second from the track store
  step      training steps of a configuration: time, bases per second, MFU, memory; a trace
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
  text = "predict: linear contigs of this length instead, beside whole windows of one contig each"
  add("--contig-bp", type=int, help=text)
  add("--trace", type=Path, help="step: also trace three steps into this folder, for xprof")
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


def compile_elsewhere(config: Config, flags: argparse.Namespace) -> dict[str, Any]:
  """Compiles the training step for a machine that is not here."""
  from alphaecoli.benchmarks import compile as compiling
  from alphaecoli.tracks.organisms import open_organisms

  if flags.platform == "cuda":
    if flags.topology:
      raise ConfigError("--topology is of TPUs; with --platform=cuda give --devices")
    compiling.stand_in_for_gpus(flags.devices)
    store = open_organisms(config, flags.workdir).stores[0]
    return {"platform": "cuda", **compiling.lower_for_cuda(config, store, flags.devices)}
  if not flags.topology:
    raise ConfigError("compile needs --topology, such as v5e:4x4, or --platform=cuda")
  compiling.use_without_chips()
  store = open_organisms(config, flags.workdir).stores[0]
  result = compiling.compile_for_tpu(
    config, store, flags.topology, slices=flags.slices, quick=flags.quick, plan=flags.plan
  )
  return {"platform": "tpu", **result}


PARTS = {
  "bson": benchmark_bson,
  "pipeline": benchmark_pipeline,
  "step": benchmark_step,
  "predict": benchmark_predict,
  "compile": compile_elsewhere,
}

if __name__ == "__main__":
  cli.run(main)
