"""Devices: peak arithmetic, memory, batches that fill them; where compiled programs are kept."""

import contextlib
import hashlib
import json
import os
import pickle
import platform
import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jaxlib
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from alphaecoli.errors import ConfigError
from alphaecoli.files import AnyPath, absolute, is_remote, user_cache

# Dense bfloat16 FLOP/s of one device as JAX counts devices.
# Sources: NVIDIA's data sheets for A100, H100 SXM, H200 SXM, B200; Google Cloud's TPU pages
# (cloud.google.com/tpu/docs, "System architecture" of each version).
PEAK_BF16_FLOPS = {
  "NVIDIA A100": 312e12,
  "NVIDIA H100": 989e12,
  "NVIDIA H200": 989e12,
  "NVIDIA B200": 2250e12,
  "TPU v2": 22.5e12,
  "TPU v3": 61.5e12,
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5e": 197e12,
  "TPU v5p": 459e12,
  "TPU v5": 459e12,
  "TPU v6 lite": 918e12,
  "TPU v6e": 918e12,
  "TPU7x": 1153.5e12,
}

# Bytes of memory that a program may use on one device as JAX counts devices. Source: what libtpu
# 0.0.42 calls available when a program is too large; checked in tests/benchmarks/test_compile.py.
HBM_BYTES = {
  "TPU v4": 30.75 * 2**30,
  "TPU v5 lite": 15.75 * 2**30,
  "TPU v5": 95.74 * 2**30,
  "TPU v6 lite": 31.25 * 2**30,
  "TPU7x": 94.75 * 2**30,
}


def peak_flops(device: jax.Device) -> float | None:
  """Returns the peak bfloat16 FLOP/s of a device; None where not known (a CPU, a new chip)."""
  names = sorted((n for n in PEAK_BF16_FLOPS if device.device_kind.startswith(n)), key=len)
  return PEAK_BF16_FLOPS[names[-1]] if names else None


def hbm_bytes(device: jax.Device) -> int:
  """Returns the memory of a TPU that a program may use."""
  return round(HBM_BYTES[device.device_kind])


def memory_bytes(device: jax.Device) -> dict[str, int]:
  """Returns bytes in use, at most so far, and in all, where the device tells."""
  stats = device.memory_stats() or {}
  names = {"in_use": "bytes_in_use", "peak": "peak_bytes_in_use", "limit": "bytes_limit"}
  return {name: int(stats[key]) for name, key in names.items() if key in stats}


def device_peak_bytes() -> int | None:
  """Returns the high-water mark of this process's fullest device; None where none tells (CPU)."""
  peaks = [memory_bytes(device).get("peak") for device in jax.local_devices()]
  return max((peak for peak in peaks if peak is not None), default=None)


def host_peak_bytes() -> int:
  """Returns the most memory that this process has had resident."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def use_compilation_cache(directory: AnyPath) -> None:
  """Keeps compiled programs on disk, so that the next run of this configuration starts at once."""
  jax.config.update("jax_compilation_cache_dir", str(absolute(directory)))
  if is_remote(directory):
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # XLA knows no buckets
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def use_user_cache() -> None:
  """Keeps compiled programs between commands of one user, so that the next one starts at once.

  They lie in ALPHAECOLI_CACHE (empty: nowhere), by default in alphaecoli of the user's cache
  directory; a directory that JAX was told of goes first. Each kind of CPU has a folder of its own:
  a program for another may hold instructions that this one lacks, and JAX does not tell them apart.
  """
  caches = user_cache()
  if caches is None or getattr(jax.config, "jax_compilation_cache_dir", None):
    return
  cache = caches / cpu_kind()
  try:
    cache.mkdir(parents=True, exist_ok=True)
  except OSError:
    return
  if os.access(cache, os.W_OK):
    use_compilation_cache(cache)


@contextlib.contextmanager
def _without_jax_cache() -> Iterator[None]:
  """Has JAX compile: what it reads from its cache lacks functions when it is serialised again.

  Such a program loads, and fails when it is called (jax 0.10.2 on CPUs).
  """
  before = getattr(jax.config, "jax_enable_compilation_cache", True)
  try:
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # it asks for the setting only once
    yield
  finally:
    jax.config.update("jax_enable_compilation_cache", before)
    compilation_cache.reset_cache()


_PROGRAM_FLAGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_debug_nans")


def _cpus() -> int:
  """Returns the number of CPUs for this process; of all where the system does not tell (macOS)."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def kept_program(
  description: Mapping[str, Any],
  device: jax.Device,
  build: Callable[[], jax.stages.Compiled] | None = None,
) -> jax.stages.Compiled | None:
  """Returns a compiled program of one CPU, kept beside JAX's own where a cache is in use.

  JAX keeps what its compiler makes; here tracing and lowering are spared, too. The file begins with
  a checksum, since what is behind it is unpickled and run: it belongs to its user, as JAX's do.

  Args:
    description: all that decides the program, apart from JAX, its settings and this machine.
    device: CPU that it runs on.
    build: makes it where it is not there; without, None is returned.
  """
  told = getattr(jax.config, "jax_compilation_cache_dir", None)
  if not told:
    return build() if build else None
  flags = {name: str(getattr(jax.config, name, None)) for name in _PROGRAM_FLAGS}
  flags |= {"xla": os.environ.get("XLA_FLAGS", ""), "cpus": str(_cpus())}
  flags |= {
    "jax": jax.__version__,
    "jaxlib": jaxlib.__version__,
    "cpu": cpu_kind(),
    "device": str(device),
  }
  name = hashlib.sha256(json.dumps([description, flags], sort_keys=True).encode()).hexdigest()
  file = Path(told) / f"program-{name[:32]}"
  try:
    content = file.read_bytes()
    if hashlib.sha256(content[32:]).digest() == content[:32]:
      return serialize_executable.deserialize_and_load(
        *pickle.loads(content[32:]), execution_devices=[device]
      )
  except OSError:
    pass
  if build is None:
    return None
  with _without_jax_cache():
    program = build()
  content = pickle.dumps(serialize_executable.serialize(program))
  temporary = file.with_name(f".{file.name}.tmp-{os.getpid()}")
  try:
    temporary.write_bytes(hashlib.sha256(content).digest() + content)
    os.replace(temporary, file)
  except OSError:  # the next call builds it again
    temporary.unlink(missing_ok=True)
  return program


def cpu_kind() -> str:
  """Returns a name for this CPU's architecture and instructions."""
  flags = platform.processor()
  if (info := Path("/proc/cpuinfo")).is_file():
    lines = info.read_text(errors="replace").splitlines()
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), flags)
  return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"


# Bases in a batch, per device: more gains nothing on two CPU cores.
CPU_BATCH_BP, ACCELERATOR_BATCH_BP = 1 << 15, 1 << 19


def local_devices(device: str | jax.Device | Sequence[jax.Device] | None) -> list[jax.Device]:
  """Finds the devices to predict on.

  Args:
    device: platform such as cpu or gpu, or devices; None for all devices of this process.

  Raises:
    ConfigError: the platform has no device here.
  """
  if device is None:
    return list(jax.local_devices())
  if isinstance(device, str):
    try:
      return list(jax.local_devices(backend=device))
    except RuntimeError as error:
      have = jax.local_devices()[0].platform
      raise ConfigError(f"device={device!r} is not available here; JAX has {have}") from error
  return list(device) if isinstance(device, Sequence) else [device]


def default_batch(window_bp: int, devices: Sequence[jax.Device]) -> int:
  """Chooses the windows at once: enough bases to keep each device busy."""
  busy_bp = CPU_BATCH_BP if devices[0].platform == "cpu" else ACCELERATOR_BATCH_BP
  return max(busy_bp // window_bp, 1) * len(devices)
