"""From a checkpoint to a predictor on the devices of this machine."""

from collections.abc import Sequence
from pathlib import Path

import jax

from alphaecoli.errors import ConfigError
from alphaecoli.inference.forward import load_forward
from alphaecoli.inference.predictor import Predictor
from alphaecoli.schema import PAIR_BP

# Bases in a batch, per device: more gains nothing on two CPU cores.
CPU_BATCH_BP, ACCELERATOR_BATCH_BP = 1 << 15, 1 << 19


def local_devices(device: str | jax.Device | Sequence[jax.Device] | None) -> list[jax.Device]:
  """The devices to predict on.

  Args:
    device: None for all of this process, a platform such as cpu or gpu, or devices.

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
  """Windows at once: enough bases to keep each device busy."""
  busy_bp = CPU_BATCH_BP if devices[0].platform == "cpu" else ACCELERATOR_BATCH_BP
  return max(busy_bp // window_bp, 1) * len(devices)


def load_predictor(
  checkpoint: str | Path,
  *,
  device: str | jax.Device | Sequence[jax.Device] | None = None,
  batch_windows: int | None = None,
  margin_bp: int | None = None,
  window_bp: int | None = None,
  organism: str | int | None = None,
) -> Predictor:
  """Loads a model for prediction.

  Args:
    checkpoint: one checkpoint, or a run's directory (its best checkpoint, else its last).
    device: None for all devices of this process, a platform such as cpu, or devices.
    batch_windows: windows at once, over all devices; by default what fills them. Rounded up to a
      multiple of the number of devices.
    margin_bp: bases dropped on either side of each window, a multiple of 128; a quarter of the
      window by default.
    window_bp: bases the model sees at once, a multiple of 2,048; by default what it was trained on.
      Other windows are quicker or see further, but the model has not learnt from them.
    organism: name or row of the organism whose tracks are predicted, where the model was trained
      on several.

  Raises:
    DataError: there is no checkpoint, or it is broken.
    ConfigError: an option is out of range.
  """
  if batch_windows is not None and batch_windows < 1:
    raise ConfigError(f"batch_windows={batch_windows}; expected at least 1")
  devices = local_devices(device)
  loaded = load_forward(Path(checkpoint), devices, organism)
  window_bp = window_bp or loaded.window_bp
  if window_bp < 1 or window_bp % PAIR_BP:
    raise ConfigError(f"window_bp={window_bp}; expected a multiple of {PAIR_BP}")
  batch = batch_windows or default_batch(window_bp, devices)
  return Predictor(
    loaded.forward,
    loaded.table,
    window_bp=window_bp,
    margin_bp=margin_bp,
    batch_windows=-(-batch // len(devices)) * len(devices),
    trained_heads=loaded.trained_heads,
    about=loaded.about,
  )
