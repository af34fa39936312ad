"""Where the time goes: an XProf trace of some steps, shares by phase, seconds a step."""

import array
import logging
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from numpy.polynomial import Polynomial

from alphaecoli.files import AnyPath, copy_folder, is_remote
from alphaecoli.model.functional import FunctionalModel, Values
from alphaecoli.parallel.hardware import device_peak_bytes, host_peak_bytes, peak_flops
from alphaecoli.parallel.sharding import batch_sharding, make_mesh
from alphaecoli.schema import MeshConfig
from alphaecoli.training.metrics_log import Stopwatch, duration

LOGGER = logging.getLogger(__name__)
PROFILE_DIR = "profile"  # within a work directory


class Profiler:
  """Traces steps of this process. A context manager, which ends a trace that is under way."""

  def __init__(self, directory: AnyPath, steps: range | None):
    """Traces nothing yet.

    Args:
      directory: receives plugins/profile/<time>/<host>.xplane.pb.
      steps: steps to trace, as numbered in the log; None for none.
    """
    self.directory, self.steps = directory, steps or range(0)
    self._active = False
    # Where the tracer writes, which knows no buckets.
    self._local = (
      Path(tempfile.gettempdir(), uuid.uuid4().hex) if is_remote(directory) else directory
    )

  def __enter__(self) -> "Profiler":
    return self

  def __exit__(self, *_: Any) -> None:
    if self._active:
      self._stop()

  def before(self, step: int, state: Any) -> None:
    """Begins the trace at its first step, once the steps before have left their state."""
    if step in self.steps and not self._active:
      jax.block_until_ready(state)
      jax.profiler.start_trace(str(self._local))
      self._active = True

  def after(self, step: int, state: Any) -> None:
    """Ends the trace after its last step, once that has left its state."""
    if self._active and step == self.steps[-1]:
      jax.block_until_ready(state)
      self._stop()

  def _stop(self) -> None:
    """Ends the trace and says where it lies."""
    self._active = False
    jax.profiler.stop_trace()
    if is_remote(self.directory):
      copy_folder(self._local, self.directory)
      shutil.rmtree(self._local)
    LOGGER.info(
      "trace of steps up to %d in %s; to look at it: pip install xprof; xprof --logdir %s",
      self.steps[-1],
      self.directory,
      self.directory,
    )


# Phases of a run; what is in none of them are steps, the part that moves the run forward.
PHASES = ("start", "input", "compile", "checkpoint", "evaluation")
NOT_STEPS = ("start", "compile", "checkpoint", "evaluation")  # left out of windows per second
_BACKWARD = 2  # FLOPs of a backward pass over those of its forward pass
# Windows that attend at once (`WHOLE_BINS`, `WHOLE_PAIRS`), for the count of longer ones.
_COUNTED_BP = (32_768, 65_536, 98_304, 131_072)


def model_flops(functional: FunctionalModel, batch_windows: int, window_bp: int) -> float:
  """Counts the FLOPs that one training step on a global batch needs, over all devices.

  Three times the forward pass of prediction as XLA counts it before any optimisation: one forward
  and twice as much backward. What `model.remat` computes again does not count, nor does the
  optimiser. XLA counts the body of a loop once: so this is not the step, whose heads may be in one,
  and longer windows, whose attention is, follow from the counts of shorter ones.

  Returns:
    The count; 0 where JAX_PLATFORMS leaves the CPU out, for which alone XLA counts without
    compiling.

  Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B, model FLOPs utilisation.
  """
  try:
    mesh = counting_mesh()
  except RuntimeError:
    LOGGER.warning("FLOPs are not counted: that takes a CPU device, and JAX_PLATFORMS names none")
    return 0.0

  def forward(params: Values, stats: Values, sequence: Array, organism: Array) -> Any:
    return functional.merge(params, stats)(sequence, organism)

  def count(window_bp: int) -> float:
    shape = batch_windows, window_bp
    sequence = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=batch_sharding(mesh, 2, True))
    organism = jax.ShapeDtypeStruct(shape[:1], jnp.int32, sharding=batch_sharding(mesh, 1, False))
    with jax.set_mesh(mesh):
      lowered = jax.jit(forward).lower(*functional.abstract(mesh), sequence, organism)
    cost: Any = lowered.cost_analysis()
    return (1 + _BACKWARD) * float(cost["flops"])

  if window_bp <= max(_COUNTED_BP):
    return count(window_bp)
  # Attention along the rows of pairs grows with the third power of the length, and nothing faster.
  counts = [count(length) for length in _COUNTED_BP]
  return float(Polynomial.fit(_COUNTED_BP, counts, deg=3)(window_bp))


def counting_mesh() -> Mesh:
  """Makes a mesh of one CPU device, to count FLOPs on: no mesh makes them more or less.

  GPUs and TPUs are reached by plugins, for which JAX counts nothing before it compiles
  (`Lowered.cost_analysis` is None, jax#22713).

  Raises:
    RuntimeError: JAX_PLATFORMS names no CPU.
  """
  cpu = jax.local_devices(backend="cpu")[:1]
  return make_mesh(MeshConfig(data=1, fsdp=1, sequence=1), cpu)


def goodput(clock: Stopwatch) -> dict[str, float]:
  """Returns shares of the time since the start: steps and every phase; they sum to 1."""
  elapsed = max(clock.elapsed(), 1e-9)
  shares = {name: clock.seconds.get(name, 0.0) / elapsed for name in PHASES}
  return {"goodput/steps": 1 - sum(shares.values())} | {
    f"goodput/{name}": share for name, share in shares.items()
  }


class StepTime(NamedTuple):
  """The time from the end of one step to the end of the next.

  Attributes:
    seconds: all of it, whatever the run did besides.
    step: number of the step that ended it.
    phase: phase of the stopwatch that took most of it; "" for none.
    phase_seconds: time in that phase.
  """

  seconds: float
  step: int
  phase: str = ""
  phase_seconds: float = 0.0


class StepTimes:
  """How long steps take, from end to end, and why the slowest took so long."""

  def __init__(self, clock: Stopwatch) -> None:
    """Begins the first step.

    Args:
      clock: stopwatch of the run, which knows the phases.
    """
    self._clock = clock
    self.begin()
    self._all = array.array("d")
    self._slowest = StepTime(0.0, 0)
    self._recent: list[StepTime] = []

  def begin(self) -> None:
    """Begins a step; what was before belongs to none."""
    self._at, self._phases = self._clock.elapsed(), dict(self._clock.seconds)

  def mark(self, step: int) -> None:
    """Ends a step, and begins the next."""
    before, phases = self._at, self._phases
    self.begin()
    within = {name: s - phases.get(name, 0.0) for name, s in self._phases.items()}
    phase = max(within, key=within.__getitem__, default="")
    ended = StepTime(self._at - before, step, phase, within.get(phase, 0.0))
    self._all.append(ended.seconds)
    self._recent.append(ended)
    self._slowest = max(self._slowest, ended)

  def recent(self) -> tuple[str, dict[str, float]]:
    """Describes the steps since the last call: for the log, and as scalars of a record."""
    steps, self._recent = self._recent, []
    if not steps:
      return "", {}
    times = _step_seconds([step.seconds for step in steps], max(steps))
    return step_text(times), {f"step_seconds/{k}": times[k] for k in ("median", "p95", "slowest")}

  def whole(self) -> tuple[str, dict[str, Any]]:
    """Describes all steps: for the log, and with the slowest one's number and cause."""
    times = _step_seconds(self._all, self._slowest) if self._all else {}
    return step_text(times), times


def _step_seconds(seconds: Sequence[float], slowest: StepTime) -> dict[str, Any]:
  """Summarises the times of steps.

  Median and 95th percentile are times of real steps (nearest rank). The cause is a phase if that
  explains at least half of what the slowest took above the median, else "step".
  """
  median, high = np.quantile(seconds, [0.5, 0.95], method="inverted_cdf").tolist()
  explained = slowest.phase and slowest.phase_seconds >= (slowest.seconds - median) / 2
  return {
    "median": median,
    "p95": high,
    "slowest": slowest.seconds,
    "slowest_step": slowest.step,
    "slowest_cause": slowest.phase if explained and slowest.phase_seconds > 0 else "step",
  }


_CAUSES = {"input": "waiting for windows", "compile": "compiling", "step": "the step itself"}


def step_text(times: Mapping[str, Any]) -> str:
  """Formats what `StepTimes` gives; nothing before the first step."""
  if not times:
    return ""
  cause = _CAUSES.get(times["slowest_cause"], times["slowest_cause"])
  return (
    f"step {times['median']:.3g} s (95% within {times['p95']:.3g} s, slowest "
    f"{times['slowest']:.3g} s at {times['slowest_step']}: {cause})  "
  )


def utilisation(flops_per_s: float, mesh: Mesh) -> dict[str, float]:
  """Returns model FLOP/s per device, and their share of its bfloat16 peak (`mfu`) where known."""
  each = flops_per_s / mesh.size
  peak = peak_flops(mesh.devices.flat[0])
  return {"model_flops_per_s_and_device": each} | ({"mfu": each / peak} if peak and each else {})


def memory() -> dict[str, float]:
  """Reads high-water marks of this process: resident memory, and its fullest device where told."""
  device = device_peak_bytes()
  return {"memory/host_peak_bytes": float(host_peak_bytes())} | (
    {"memory/device_peak_bytes": float(device)} if device is not None else {}
  )


def speed_text(scalars: Mapping[str, float]) -> str:
  """Formats utilisation, share of steps and memory of a record for the log."""
  flops, mfu = scalars["model_flops_per_s_and_device"], scalars.get("mfu")
  used = f"MFU {mfu:.1%}" if mfu is not None else f"{flops / 1e9:,.1f} GFLOP/s a device"
  host, device = scalars["memory/host_peak_bytes"], scalars.get("memory/device_peak_bytes")
  memory = f"peak memory {host / 2**30:.2f} GiB host"
  if device is not None:
    memory += f", {device / 2**30:.2f} GiB device"
  return f"{used}  steps {scalars['goodput/steps']:.0%} of the time  {memory}"


def closing_text(clock: Stopwatch) -> str:
  """Formats where the time of a run went."""
  shares = goodput(clock)
  parts = ", ".join(f"{name.removeprefix('goodput/')} {x:.1%}" for name, x in shares.items())
  return f"{duration(clock.elapsed())}: {parts}"
