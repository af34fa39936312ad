"""The configuration: typed, checked, frozen.

Values live in `configs/base.py`; this module knows names, types and ranges. `resolve` is the only
way in, so that after it nobody asks whether a key exists.
"""

import dataclasses
import difflib
import importlib.machinery
import importlib.util
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from alphaecoli.errors import ConfigError

BIN_BP = 128
PAIR_BP = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class DataConfig:
  """What is read and how it becomes tracks and windows. Units and meaning: configs/base.py."""

  dump: str
  genome: str
  circular: bool
  window_bp: int
  max_docs_per_file: int
  n_blocks: int
  n_folds: int
  fold: int
  exclude_gene_types: tuple[str, ...]
  min_operon_genes: int
  min_genes_per_unit: int
  max_tpm_sum: float
  expression_tracks: str
  expression_groups: dict[str, tuple[str, ...]]
  stranded: bool
  store_dir: str
  reverse_complement: float
  read_threads: int
  prefetch: int

  def __post_init__(self):
    if self.window_bp < PAIR_BP or self.window_bp % PAIR_BP:
      lower = max(self.window_bp // PAIR_BP, 1) * PAIR_BP
      raise ConfigError(
        f"data.window_bp={self.window_bp} is not a multiple of {PAIR_BP}; "
        f"nearest: {lower} or {lower + PAIR_BP}"
      )
    _at_least("data", self, max_docs_per_file=0, n_folds=3, n_blocks=3, min_operon_genes=1)
    _at_least("data", self, min_genes_per_unit=1, read_threads=0, prefetch=1)
    if self.n_blocks < self.n_folds:
      raise ConfigError(f"data.n_blocks={self.n_blocks} is less than data.n_folds={self.n_folds}")
    if not 0 <= self.fold < self.n_folds:
      raise ConfigError(f"data.fold={self.fold} is not between 0 and {self.n_folds - 1}")
    if not 0 <= self.reverse_complement <= 1:
      raise ConfigError(
        f"data.reverse_complement={self.reverse_complement} is not a probability (0 to 1)"
      )
    if self.max_tpm_sum < 1e6:
      raise ConfigError(f"data.max_tpm_sum={self.max_tpm_sum} is less than 1e6, which TPM sum to")
    kind = self.expression_tracks.split(":")[0]
    if kind not in ("mean", "dataset", "group"):
      raise ConfigError(
        f"data.expression_tracks={self.expression_tracks!r}; expected mean, dataset or "
        "group:<condition field>"
      )


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig:
  """Sizes of the model. Meaning: configs/base.py."""

  channels: int
  channel_step: int
  first_conv_width: int
  conv_width: int
  n_layers: int
  n_heads: int
  key_dim: int
  value_dim: int
  mlp_ratio: int
  pair_channels: int
  pair_heads: int
  pair_head_dim: int
  pair_features: int
  pair_every: int
  n_organisms: int
  batch_norm_decay: float
  head_dropout: float
  compute_dtype: str
  remat: bool

  def __post_init__(self):
    _at_least("model", self, channels=1, channel_step=0, first_conv_width=1, conv_width=1)
    _at_least("model", self, n_layers=0, n_heads=1, key_dim=2, value_dim=1, mlp_ratio=1)
    _at_least("model", self, pair_channels=1, pair_heads=1, pair_head_dim=1, pair_every=1)
    _at_least("model", self, n_organisms=1, pair_features=1)
    if self.key_dim % 2:
      raise ConfigError(f"model.key_dim={self.key_dim} is odd; rotary positions need pairs")
    if self.compute_dtype not in ("float32", "bfloat16"):
      raise ConfigError(f"model.compute_dtype={self.compute_dtype!r}; expected float32 or bfloat16")
    if not 0 <= self.head_dropout < 1:
      raise ConfigError(f"model.head_dropout={self.head_dropout} is not in [0, 1)")
    if not 0 <= self.batch_norm_decay < 1:
      raise ConfigError(f"model.batch_norm_decay={self.batch_norm_decay} is not in [0, 1)")


@dataclasses.dataclass(frozen=True, slots=True)
class TrainConfig:
  """Length and size of a run."""

  steps: int
  batch_windows: int
  accumulate_steps: int
  seed: int

  def __post_init__(self):
    _at_least("train", self, steps=1, batch_windows=1, accumulate_steps=1, seed=0)
    if self.batch_windows % self.accumulate_steps:
      raise ConfigError(
        f"train.batch_windows={self.batch_windows} is not a multiple of "
        f"train.accumulate_steps={self.accumulate_steps}"
      )


@dataclasses.dataclass(frozen=True, slots=True)
class OptimizerConfig:
  """AdamW with linear warm-up and cosine decay."""

  learning_rate: float
  warmup_steps: int
  final_fraction: float
  weight_decay: float
  beta1: float
  beta2: float
  clip_norm: float

  def __post_init__(self):
    _at_least("optimizer", self, warmup_steps=0, weight_decay=0)
    if self.learning_rate <= 0 or self.clip_norm <= 0:
      raise ConfigError("optimizer.learning_rate and optimizer.clip_norm must be above 0")


@dataclasses.dataclass(frozen=True, slots=True)
class LossWeights:
  """Weight of each head's loss in the total; 0 switches a head off."""

  gene_expression: float
  gene_density: float
  operon_membership: float

  def __post_init__(self):
    _at_least("loss.weights", self, gene_expression=0, gene_density=0, operon_membership=0)
    if not any(dataclasses.astuple(self)):
      raise ConfigError("loss.weights are all 0: there is nothing to train")


@dataclasses.dataclass(frozen=True, slots=True)
class LossConfig:
  """The losses."""

  weights: LossWeights


@dataclasses.dataclass(frozen=True, slots=True)
class MeshConfig:
  """Devices = data x fsdp x sequence; -1 takes what is left."""

  data: int
  fsdp: int
  sequence: int

  def __post_init__(self):
    for name, size in dataclasses.asdict(self).items():
      if size < 1 and size != -1:
        raise ConfigError(f"mesh.{name}={size}; expected a number of devices, or -1 for the rest")


@dataclasses.dataclass(frozen=True, slots=True)
class CheckpointConfig:
  """When checkpoints are written and which stay."""

  every_steps: int
  keep_last: int
  keep_best: int

  def __post_init__(self):
    _at_least("checkpoint", self, every_steps=1, keep_last=1, keep_best=0)


@dataclasses.dataclass(frozen=True, slots=True)
class EvaluationConfig:
  """When and how the validation split is measured."""

  every_steps: int
  batch_windows: int

  def __post_init__(self):
    _at_least("evaluation", self, every_steps=1, batch_windows=1)


@dataclasses.dataclass(frozen=True, slots=True)
class LogConfig:
  """What a run writes about itself."""

  every_steps: int
  tensorboard: bool
  compilation_cache: bool

  def __post_init__(self):
    _at_least("log", self, every_steps=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
  """A whole run. Built by `resolve`; `to_dict` and `resolve` are inverses."""

  data: DataConfig
  model: ModelConfig
  train: TrainConfig
  optimizer: OptimizerConfig
  loss: LossConfig
  mesh: MeshConfig
  checkpoint: CheckpointConfig
  evaluation: EvaluationConfig
  log: LogConfig

  def to_dict(self) -> dict[str, Any]:
    """Plain values, for JSON."""
    return dataclasses.asdict(self)


# A small model and a short run: every part of the path in minutes on two CPU cores.
TEST_MODE: dict[str, Any] = {
  "data.window_bp": 8_192,
  "model.channels": 16,
  "model.channel_step": 8,
  "model.n_layers": 2,
  "model.n_heads": 2,
  "model.key_dim": 16,
  "model.value_dim": 16,
  "model.pair_channels": 8,
  "model.pair_heads": 2,
  "model.pair_head_dim": 8,
  "model.compute_dtype": "float32",
  "model.remat": False,
  "train.steps": 20,
  "train.batch_windows": 4,
  "train.accumulate_steps": 1,
  "optimizer.warmup_steps": 5,
  "optimizer.learning_rate": 2e-3,
  "checkpoint.every_steps": 10,
  "evaluation.every_steps": 20,
  "evaluation.batch_windows": 4,
  "log.every_steps": 5,
}


def _at_least(section: str, config: Any, **minimum: float) -> None:
  """Raises ConfigError where a value is below its minimum."""
  for name, low in minimum.items():
    value = getattr(config, name)
    if not value >= low:
      raise ConfigError(f"{section}.{name}={value}; expected at least {low}")


def resolve(config: ConfigDict | Mapping[str, Any]) -> Config:
  """Checks every name, type and range.

  Raises:
    ConfigError: an unknown key (with the nearest valid name), a missing one, a wrong type or a
      value out of range.
  """
  plain = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
  return typing.cast(Config, _build(Config, plain, ""))


def _build(kind: type, values: Mapping[str, Any], path: str) -> Any:
  """Builds one dataclass of the configuration from plain values."""
  hints = typing.get_type_hints(kind)
  for key in values:
    if key not in hints:
      raise ConfigError(unknown_key(path + key))
  missing = [path + name for name in hints if name not in values]
  if missing:
    raise ConfigError(f"configuration lacks {', '.join(missing)}; start from configs/base.py")
  return kind(**{n: _value(hint, values[n], path + n) for n, hint in hints.items()})


def _value(hint: Any, value: Any, path: str) -> Any:
  """Checks one value against its type; whole numbers are floats too."""
  if dataclasses.is_dataclass(hint):
    if not isinstance(value, Mapping):
      raise ConfigError(f"{path}={value!r}; expected a section with keys of its own")
    return _build(typing.cast(type, hint), value, path + ".")
  origin = typing.get_origin(hint)
  if origin is tuple and isinstance(value, list | tuple):
    return tuple(_value(typing.get_args(hint)[0], v, path) for v in value)
  if origin is dict and isinstance(value, Mapping):
    inner = typing.get_args(hint)[1]
    return {str(k): _value(inner, v, f"{path}.{k}") for k, v in value.items()}
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  exact = isinstance(value, hint) if origin is None else False
  if not exact or (isinstance(value, bool) and hint is not bool):
    expected = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"{path}={value!r} is a {type(value).__name__}; expected {expected}")
  return value


def key_names(kind: type = Config, path: str = "") -> list[str]:
  """Every key with its section, such as data.window_bp."""
  names = []
  for name, hint in typing.get_type_hints(kind).items():
    if dataclasses.is_dataclass(hint):
      names += key_names(typing.cast(type, hint), f"{path}{name}.")
    else:
      names.append(path + name)
  return names


def unknown_key(key: str) -> str:
  """The message for a key that does not exist, with the nearest that does."""
  near = difflib.get_close_matches(key, key_names(), 1, 0.5)
  if not near:  # the right name in the wrong section
    leaf = key.rsplit(".", 1)[-1]
    near = [name for name in key_names() if name.rsplit(".", 1)[-1] == leaf][:1]
  hint = f"; did you mean {near[0]}?" if near else ""
  return f"unknown configuration key {key}{hint}"


def configs_dir() -> Path:
  """The shipped configurations: beside the package in a checkout, inside it when installed."""
  package = Path(__file__).resolve().parent
  inside = package / "configs"
  return inside if inside.is_dir() else package.parent / "configs"


def base_config() -> ConfigDict:
  """The values of configs/base.py, to start a configuration from."""
  return load_file(configs_dir() / "base.py")


def _require_file(path: Path) -> None:
  """Raises ConfigError, naming the shipped configurations, where there is no such file."""
  if not path.is_file():
    shipped = ", ".join(sorted(p.name for p in configs_dir().glob("*.py")))
    raise ConfigError(f"no configuration file {path}; shipped in {configs_dir()}: {shipped}")


def load_file(path: str | Path) -> ConfigDict:
  """Runs `get_config` of a configuration file.

  Raises:
    ConfigError: no such file, or it has no `get_config`.
  """
  path = Path(path)
  _require_file(path)
  spec = importlib.util.spec_from_file_location(f"alphaecoli_config_{path.stem}", path)
  assert isinstance(spec, importlib.machinery.ModuleSpec) and spec.loader is not None
  module: types.ModuleType = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, "get_config"):
    raise ConfigError(f"{path} has no function get_config()")
  return module.get_config()


def load(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
  """A resolved configuration from a file and overrides such as {"train.steps": 5}."""
  config = load_file(path)
  apply_overrides(config, overrides or {})
  return resolve(config)


def apply_overrides(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
  """Sets dotted keys.

  Raises:
    ConfigError: an unknown key or a value of another type.
  """
  for key, value in overrides.items():
    *sections, leaf = key.split(".")
    node = config
    for section in sections:
      node = node.get(section) if isinstance(node, ConfigDict) else None
    if not isinstance(node, ConfigDict) or leaf not in node:
      raise ConfigError(unknown_key(key))
    try:
      node[leaf] = value
    except TypeError as error:
      raise ConfigError(f"{key}={value!r}: {error}") from error


def from_arguments(arguments: Sequence[str], test_mode: bool = False) -> tuple[Config, str]:
  """Reads `--config FILE` and `--config.section.key=value` from a command line.

  Without `--config` the values of configs/base.py are used. In test mode a small model and a
  short run replace the file's sizes; overrides on the command line still win.

  Returns:
    The configuration and the name of its file, without directory and suffix.

  Raises:
    ConfigError: anything that is not understood, in one line.
  """
  flag_values = flags.FlagValues()
  arguments = list(arguments)
  if not any(a == "--config" or a.startswith("--config=") for a in arguments):
    arguments.insert(0, f"--config={configs_dir() / 'base.py'}")
  argv = ["alphaecoli", *arguments]
  for before, argument in zip(argv, arguments, strict=False):
    if argument.startswith("--config."):
      key = argument.removeprefix("--config.").split("=", 1)[0]
      if key not in key_names() and not key.startswith("data.expression_groups."):
        raise ConfigError(unknown_key(key))
    elif argument.startswith("--config=") or before == "--config":
      _require_file(Path(argument.removeprefix("--config=").split(":")[0]))
  config_flags.DEFINE_config_file("config", flag_values=flag_values, sys_argv=argv)
  try:
    rest = flag_values(argv)[1:]
    flag: Any = flag_values["config"]
    config, overrides = flag.value, dict(flag.override_values)
    name = Path(flag.config_filename.split(":")[0]).stem
  except (flags.Error, ValueError, TypeError, AttributeError, KeyError, SyntaxError) as error:
    raise ConfigError(" ".join(str(error).split())) from error
  if rest:
    raise ConfigError(f"unexpected argument {rest[0]!r}; overrides are --config.section.key=value")
  if test_mode:
    apply_overrides(config, {**TEST_MODE, **overrides})
  return resolve(config), name
