"""The training step compiled for accelerators that are not here: TPU by libtpu, CUDA to StableHLO.

What is compiled is what training runs: the same model, step, mesh and layout, in shapes alone.
"""

import dataclasses
import importlib.util
import logging
import os
import re
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax import export
from jax.experimental import topologies
from jax.sharding import Mesh
from jax.stages import Compiled, Lowered

from alphaecoli.benchmarks.memory_plan import collectives, planned
from alphaecoli.errors import ConfigError, UserError
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.batches import check_batch_size
from alphaecoli.parallel.hardware import hbm_bytes, peak_flops
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import Config
from alphaecoli.tracks.store import TrackStore, open_store
from alphaecoli.training.profiler import counting_mesh, model_flops
from alphaecoli.training.step import StepDefinition

LOGGER = logging.getLogger(__name__)

# Slices that Google Cloud offers, by what libtpu calls them: chips along each axis of the network.
# Source: cloud.google.com/tpu/docs, the page of each version.
TOPOLOGIES = {
  "v4": "2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8",
  "v5e": "1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16",
  "v5p": "2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8",
  "v6e": "1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16",
  "tpu7x": "2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8",
}
# What libtpu else asks of the machine, or of Google Cloud, or writes about not finding it.
NO_TPU = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v5p-8",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_MIN_LOG_LEVEL": "3",
  "TPU_LOG_DIR": "disabled",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several compilations at once, and beside a run
}
_QUICK = {"exec_time_optimization_effort": -1.0}
# XLA's words where a program does not fit, in two places of the compiler.
_TOO_LARGE = re.compile(
  r"Used (?P<used>[\d.]+[KMGT]?) of (?P<has>[\d.]+[KMGT]?) hbm|"
  r"\((?P<temporaries>[\d.]+[KMGT]?)\) exceeds available HBM \((?P<left>[\d.]+[KMGT]?)\)"
)
_LARGEST = re.compile(
  r"\d+\. Size: (?P<size>[\d.]+[KMGT]?)\s*\n"
  r"(?:\s+Operator: op_name=\"(?P<operator>[^\"]*)\"[^\n]*\n)?"
  r"(?:\s+(?!Shape)[^\n]*\n)*?"
  r"\s+Shape: (?P<shape>\w+\[[\d,]*\])"
)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
COUNTED = "flops_per_step_and_device"
_CUSTOM_CALL = re.compile(r"stablehlo\.custom_call @([\w.$]+)")


def use_without_chips() -> None:
  """Has libtpu compile on this machine, whatever it is. Comes before anything that uses a device.

  Raises:
    UserError: libtpu is not installed.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise UserError("compiling for TPUs needs libtpu: pip install 'alphaecoli[tpu]'")
  for name, value in NO_TPU.items():
    os.environ.setdefault(name, value)
  jax.config.update("jax_platforms", "cpu")


def stand_in_for_gpus(devices: int) -> None:
  """Makes virtual CPU devices to lay a mesh over. Comes before anything that uses a device."""
  if devices < 1:
    raise ConfigError(f"--devices={devices}; expected at least 1")
  flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
  os.environ["XLA_FLAGS"] = flags
  jax.config.update("jax_platforms", "cpu")


def topology_devices(name: str, slices: int = 1) -> list[jax.Device]:
  """Returns stand-ins for the devices of a TPU slice, to compile for. First `use_without_chips`.

  Args:
    name: name of a slice such as v5e:4x4; see TOPOLOGIES.
    slices: number of slices, as GKE's JobSet starts.

  Raises:
    ConfigError: libtpu knows no such slice.
  """
  if slices < 1:
    raise ConfigError(f"--slices={slices}; expected at least 1")
  options: dict[str, Any] = {"num_slices": slices} if slices > 1 else {}
  if name.startswith("v4:"):
    options["chip_config_name"] = "megacore"  # as JAX has it: both cores of a chip are one device
  if name.endswith(":1x1"):
    options["chips_per_host_bounds"] = (1, 1, 1)
  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
  except jax.errors.JaxRuntimeError as error:
    if "INVALID_ARGUMENT" not in str(error):
      raise
    known = "; ".join(f"{chip}:{sizes}" for chip, sizes in TOPOLOGIES.items())
    raise ConfigError(f"--topology={name}: no such TPU slice; known: {known}") from error
  return list(found.devices)


def compile_for_tpu(
  config: Config,
  store: TrackStore,
  topology: str,
  *,
  slices: int = 1,
  quick: bool = False,
  plan: bool = False,
) -> dict[str, Any]:
  """Compiles the training step for a TPU slice. First `use_without_chips`.

  Args:
    config: configuration of the run.
    store: track store with the number of tracks, and the heads that have targets.
    topology: name of a slice such as v5e:4x4.
    slices: number of slices.
    quick: whether to spend less time on making the program fast.
    plan: whether to end when memory is planned, before machine code is made.

  Returns:
    Figures for JSON. `fits` says whether the step fits the memory of a device; where it does not,
    the compiler's figures of what it would need take the place of the others.

  Raises:
    ConfigError: an unknown topology, or a mesh or batch that does not divide over it.
    UserError: with `plan`, the compiler failed.
  """
  device = topology_devices(topology, slices)[0]
  lowered, sizes = _lower_for_tpu(config, store, topology, slices)
  LOGGER.info("compiling for %d x %s", sizes["devices"], device.device_kind)
  flops, peak = _model_flops(config, store), peak_flops(device)
  started = time.perf_counter()
  if plan:
    figures = planned(partial(_compile_in_process, config, store.path, topology, slices, quick))
  else:
    figures = _compile(lowered, _QUICK if quick else {})
  if COUNTED in figures:
    figures[COUNTED] *= counted_in_loop(config, store)
  result = {
    "topology": topology,
    "slices": slices,
    "device": device.device_kind,
    **sizes,
    "model_flops_per_step": flops,
    "hbm_bytes_per_device": hbm_bytes(device),
    "compile_s": time.perf_counter() - started,
    "fits": True,
    **figures,
  }
  if peak:
    result["step_s_at_peak_flops"] = flops / sizes["devices"] / peak
  return result


def _compile_in_process(
  config: Config, store: Path, topology: str, slices: int, quick: bool, options: dict[str, Any]
) -> dict[str, Any]:
  """Compiles the step in another process, which starts from nothing."""
  use_without_chips()
  lowered, _ = _lower_for_tpu(config, open_store(store), topology, slices)
  return _compile(lowered, options | (_QUICK if quick else {}))


def _lower_for_tpu(
  config: Config, store: TrackStore, topology: str, slices: int
) -> tuple[Lowered, dict[str, Any]]:
  """Lowers the step for a TPU slice; returns it and its sizes."""
  mesh = make_mesh(config.mesh, topology_devices(topology, slices))
  step, inputs, sizes = _step(config, store, mesh)
  with jax.set_mesh(mesh):
    lowered = step.lower(*inputs)
  return lowered, sizes


def _compile(lowered: Lowered, options: dict[str, Any]) -> dict[str, Any]:
  """Compiles the step; returns its figures, or what it lacks."""
  try:
    return _figures(lowered.compile(compiler_options=options))
  except jax.errors.JaxRuntimeError as error:
    found = too_large(str(error))
    if found is None:
      raise
    return found


def lower_for_cuda(config: Config, store: TrackStore, devices: int) -> dict[str, Any]:
  """Exports the training step for NVIDIA GPUs. First `stand_in_for_gpus`.

  Every operation of it lowers, with its layout on the mesh. No CUDA compiler takes part: memory,
  collectives and kernels are chosen on the GPU machine.

  Args:
    config: configuration of the run.
    store: track store with the number of tracks, and the heads that have targets.
    devices: GPUs of the mesh.

  Returns:
    Figures for JSON.

  Raises:
    ConfigError: a mesh or batch that does not divide over the devices.
  """
  mesh = make_mesh(config.mesh, jax.devices("cpu")[:devices])
  step, inputs, sizes = _step(config, store, mesh)
  with jax.set_mesh(mesh):
    exported = export.export(step, platforms=("cuda",))(*inputs)
  return {
    **sizes,
    "model_flops_per_step": _model_flops(config, store),
    "module_bytes": len(exported.mlir_module_serialized),
    "custom_calls": dict(Counter(_CUSTOM_CALL.findall(exported.mlir_module()))),
  }


def _step(
  config: Config, store: TrackStore, mesh: Mesh
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
  """Returns the jitted step of a run on a mesh, its inputs as shapes, and its sizes."""
  check_batch_size(config, mesh)
  definition = StepDefinition.of_config(config, store.table, mesh)
  inputs = definition.abstract_inputs(config, store)
  sizes = {
    "devices": mesh.size,
    "mesh": dict(mesh.shape),
    "parameters": sum(value.size for value in inputs[0].params.values()),
    "window_bp": config.data.window_bp,
    "batch_windows": config.train.batch_windows,
  }
  return definition.jit(), inputs, sizes


def _model_flops(config: Config, store: TrackStore) -> float:
  """Counts the arithmetic that the step needs on all devices together."""
  functional = FunctionalModel.of_config(config, store.table)
  return model_flops(functional, config.train.batch_windows, config.data.window_bp)


def counted_in_loop(config: Config, store: TrackStore) -> float:
  """Returns the factor from XLA's count of a step's FLOPs to those that it does.

  XLA counts the body of the loop over micro-batches once, however often it runs. The same batch
  without the loop does the same work: its count over that with the loop, both before optimisation,
  is the factor. (1 without micro-batches; kernels are standardised anew for each, which is left
  out.)
  """
  if config.train.accumulate_steps == 1:
    return 1.0
  mesh, counts = counting_mesh(), []
  for steps in (1, config.train.accumulate_steps):
    train = dataclasses.replace(config.train, accumulate_steps=steps)
    step, inputs, _ = _step(dataclasses.replace(config, train=train), store, mesh)
    with jax.set_mesh(mesh):
      cost: Any = step.lower(*inputs).cost_analysis()
    counts.append(float(cost["flops"]))
  return counts[0] / counts[1]


def _figures(compiled: Compiled) -> dict[str, Any]:
  """Reads memory, arithmetic and collectives of one device, as the compiler counts them.

  Arithmetic is that of the program: what is computed again in the backward pass counts twice, what
  stands in a loop once (`counted_in_loop`).
  """
  memory: Any = compiled.memory_analysis()
  parts = {
    "arguments": memory.argument_size_in_bytes,
    "outputs": memory.output_size_in_bytes,
    "outputs_in_place_of_arguments": memory.alias_size_in_bytes,
    "temporaries": memory.temp_size_in_bytes,
    "program": memory.generated_code_size_in_bytes,
  }
  total = sum(parts.values()) - 2 * parts["outputs_in_place_of_arguments"]
  cost: Any = compiled.cost_analysis()
  return {
    "memory_bytes_per_device": parts | {"total": total},
    COUNTED: cost["flops"],
    "collectives_per_step_and_device": collectives(compiled.as_text() or ""),
  }


def too_large(message: str) -> dict[str, Any] | None:
  """Reads what the compiler says of a program that does not fit; None for another failure.

  Returns:
    `fits`: False; `needed_bytes_per_device` and `available_bytes_per_device`, arguments included
    or, where the compiler gives up before it places them, of temporaries alone; `largest`: the
    arrays that take most, where it lists them.
  """
  if "RESOURCE_EXHAUSTED" not in message:
    return None
  found = _TOO_LARGE.search(message)
  sizes = [_size(text) for text in found.groups() if text] if found else [None, None]
  return {
    "fits": False,
    "needed_bytes_per_device": sizes[0],
    "available_bytes_per_device": sizes[1],
    "largest": [
      {"bytes": _size(item["size"]), "shape": item["shape"], "of": item["operator"] or ""}
      for item in _LARGEST.finditer(message)
    ],
    "compiler": message.splitlines()[0],
  }


def _size(text: str) -> int:
  """Converts a size such as 1.5G to bytes."""
  return round(float(text.rstrip("KMGT")) * _UNITS.get(text[-1], 1))
