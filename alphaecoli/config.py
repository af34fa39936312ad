"""From files, flags and overrides to a checked configuration.

Values live in `configs/base.py`, names, types and ranges in `schema.py`. `resolve` is the only way
in, so that after it nobody asks whether a key exists.
"""

import ast
import csv
import dataclasses
import importlib.machinery
import importlib.util
import logging
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from alphaecoli.errors import ConfigError, brief, nearest, program_of_user, reason_of
from alphaecoli.schema import DATA_BEFORE, HEADS, Config, Head

LOGGER = logging.getLogger(__name__)
# A RecursionError: absl looks for flags like an unknown one, which may have thousands of letters.
_UNREADABLE = (flags.Error, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_GROUPS = "data.expression_groups."
_OLD_KEY, _NEW_KEY = "init.from", "init.checkpoint"

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


def resolve(config: ConfigDict | Mapping[str, Any]) -> Config:
  """Checks every name, type and range.

  Raises:
    ConfigError: an unknown key (with the nearest valid name), a missing one, a wrong type or a
      value out of range.
  """
  plain = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
  if "from_" in plain.get("init", {}):  # in a configuration file of an earlier version
    LOGGER.warning("%s is now %s; the old name goes with the next release", _OLD_KEY, _NEW_KEY)
    plain = _with_today_names(plain)
  return typing.cast(Config, _build(Config, plain, ""))


def _with_today_names(values: Mapping[str, Any]) -> dict[str, Any]:
  """Gives the value of `init.from`, as earlier versions called it, to `init.checkpoint`."""
  init = dict(values.get("init", {}))
  for old in ("from", "from_"):
    if old in init:
      init["checkpoint"] = init.pop(old) or init.get("checkpoint", "")
  return {**values, "init": init} if "init" in values else dict(values)


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


def with_new_keys(values: Mapping[str, Any]) -> dict[str, Any]:
  """Completes a configuration of an earlier version with the keys that have come since.

  They have the values of configs/base.py, where a new key stands for what was done before it, else
  those of `DATA_BEFORE`. A head that has come since has weight 0.

  Args:
    values: nested plain values, as `Config.to_dict` gives them.
  """
  base, values = resolve(base_config()).to_dict(), _with_today_names(values)
  base["data"] |= DATA_BEFORE
  base["loss"]["weights"] = dict.fromkeys(HEADS, 0.0)

  def fill(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    filled = {**base, **values}
    for name, value in base.items():
      if isinstance(value, dict) and value and isinstance(values.get(name), Mapping):
        filled[name] = fill(value, values[name])
    return filled

  return fill(base, values)


def heads_of(values: Mapping[str, Any]) -> dict[str, Head]:
  """Returns the heads that a configuration, perhaps of an earlier version, gives a weight.

  A model has these heads, whatever their weights; it has none that came after it.

  Args:
    values: nested plain values, as a checkpoint holds them.
  """
  named = values.get("loss", {}).get("weights", {})
  return {name: head for name, head in HEADS.items() if name in named}


def _value(hint: Any, value: Any, path: str) -> Any:
  """Checks one value against its type; whole numbers are floats too."""
  if dataclasses.is_dataclass(hint):
    if not isinstance(value, Mapping):
      raise ConfigError(f"{path}={brief(value)}; expected a section with keys of its own")
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
    raise ConfigError(f"{path}={brief(value)} is a {type(value).__name__}; expected {expected}")
  return value


def key_types(kind: type = Config, path: str = "") -> dict[str, Any]:
  """Returns the type of every key with its section, such as data.window_bp."""
  types: dict[str, Any] = {}
  for name, hint in typing.get_type_hints(kind).items():
    is_section = dataclasses.is_dataclass(hint)
    types |= key_types(hint, f"{path}{name}.") if is_section else {path + name: hint}
  return types


def key_names() -> list[str]:
  """Lists every key with its section."""
  return list(key_types())


def unknown_key(key: str) -> str:
  """Writes the message for a key that does not exist, with the nearest that does."""
  near = nearest(key, key_names(), similarity=0.5)
  if not near:  # the right name in the wrong section
    leaf = key.rsplit(".", 1)[-1]
    near = next((name for name in key_names() if name.rsplit(".", 1)[-1] == leaf), "")
  hint = f"; did you mean {near}?" if near else ""
  return f"unknown configuration key {key if len(key) < 100 else brief(key)}{hint}"


def configs_dir() -> Path:
  """Finds the shipped configurations: beside the package in a checkout, inside it if installed."""
  package = Path(__file__).resolve().parent
  inside = package / "configs"
  return inside if inside.is_dir() else package.parent / "configs"


def base_config() -> ConfigDict:
  """Returns the values of configs/base.py, to start a configuration from."""
  return load_file(configs_dir() / "base.py")


def load_file(path: str | Path, *arguments: str) -> ConfigDict:
  """Runs `get_config` of a configuration file, which may take an argument.

  Raises:
    ConfigError: no such file, it fails, or has no `get_config` that returns a ConfigDict.
  """
  path = Path(path)
  if not path.is_file():
    shipped = ", ".join(sorted(p.name for p in configs_dir().glob("*.py")))
    raise ConfigError(f"no configuration file {path}; shipped in {configs_dir()}: {shipped}")
  spec = importlib.util.spec_from_file_location(f"alphaecoli_config_{path.stem}", path)
  assert isinstance(spec, importlib.machinery.ModuleSpec) and spec.loader is not None
  module: types.ModuleType = importlib.util.module_from_spec(spec)
  with program_of_user(path):
    spec.loader.exec_module(module)
    config = module.get_config(*arguments) if hasattr(module, "get_config") else None
  if not isinstance(config, ConfigDict):
    raise ConfigError(f"{path} has no function get_config() that returns a ConfigDict")
  return config


def load(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
  """Resolves a configuration from a file and overrides such as {"train.steps": 5}."""
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
      raise ConfigError(f"{key}={brief(value)}: {reason_of(error)}") from error


def from_arguments(arguments: Sequence[str], test_mode: bool = False) -> tuple[Config, str]:
  """Reads `--config FILE` and `--config.section.key=value` from a command line.

  Commas separate the elements of a tuple; one that is given twice adds up. Without `--config` the
  values of configs/base.py are used. In test mode a small model and a short run replace the file's
  sizes; overrides on the command line still win.

  Returns:
    The configuration and the name of its file, without directory and suffix.

  Raises:
    ConfigError: anything that is not understood, in one line.
  """
  flag_values = flags.FlagValues()
  arguments = [_today(argument) for argument in arguments]
  if not any(a == "--config" or a.startswith("--config=") for a in arguments):
    arguments.insert(0, f"--config={configs_dir() / 'base.py'}")
  for before, argument in zip(["", *arguments], arguments, strict=False):
    if argument.startswith("--config=") or before == "--config":
      load_file(*argument.removeprefix("--config=").split(":", 1))  # whose errors are one line
    elif argument.startswith("--config."):
      key = argument.removeprefix("--config.").split("=", 1)[0]
      if key not in key_names() and not key.startswith(_GROUPS):
        raise ConfigError(unknown_key(key))
  argv, groups = _with_lists(["alphaecoli", *arguments])
  config_flags.DEFINE_config_file("config", flag_values=flag_values, sys_argv=argv)
  try:
    rest = flag_values(argv)[1:]
    flag: Any = flag_values["config"]
    config, overrides = flag.value, dict(flag.override_values)
    name = Path(flag.config_filename.split(":")[0]).stem
  except (SyntaxError, *_UNREADABLE) as error:
    raise ConfigError(reason_of(error, 400)) from error
  if rest:
    raise ConfigError(f"unexpected argument {brief(rest[0])}; write --config.section.key=value")
  with config.unlocked():
    config.data.expression_groups.update(groups)
  if test_mode:
    apply_overrides(config, {**TEST_MODE, **overrides})
  return resolve(config), name


def _with_lists(arguments: Sequence[str]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
  """Writes tuples as Python does, for ml_collections; returns groups of expression apart."""
  rest: list[str] = []
  found: dict[str, tuple[Any, ...]] = {}
  waiting, types = iter(arguments), key_types()
  for argument in waiting:
    name, equals, text = argument.partition("=")
    key = name.removeprefix("--config.")
    kind = tuple[str, ...] if key.startswith(_GROUPS) else types.get(key)
    if key == name or typing.get_origin(kind) is not tuple:
      rest.append(argument)
      continue
    elements = _elements(key, text if equals else next(waiting, ""), typing.get_args(kind)[0])
    if key in found:
      LOGGER.info("%s is given twice, which adds up: %s", key, (*found[key], *elements))
    found[key] = (*found.get(key, ()), *elements)
  groups = {k.removeprefix(_GROUPS): v for k, v in found.items() if k.startswith(_GROUPS)}
  lists = [f"--config.{k}={v!r}" for k, v in found.items() if not k.startswith(_GROUPS)]
  return [*rest, *lists], groups


def _elements(key: str, text: str, kind: type) -> tuple[Any, ...]:
  """Reads elements with commas between, or as Python writes a tuple."""
  try:
    if text[:1] in ("(", "["):
      return tuple(ast.literal_eval(text))
    cells = next(csv.reader([text], quotechar="'", skipinitialspace=True), [])
    return tuple(kind(cell.strip()) for cell in cells if cell.strip())
  except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
    expected = {float: "numbers", int: "whole numbers"}.get(kind, "names")
    raise ConfigError(f"{key}={text[:80]}; expected {expected} with commas between") from error


def _today(argument: str) -> str:
  """Replaces the old name of a key in an override by its name today."""
  name, equals, value = argument.partition("=")
  if name != f"--config.{_OLD_KEY}":
    return argument
  LOGGER.warning("%s is now %s; the old name goes with the next release", _OLD_KEY, _NEW_KEY)
  return f"--config.{_NEW_KEY}{equals}{value}"


def reference() -> str:
  """Writes docs/configuration.md: every key of configs/base.py with its type, value and meaning."""
  comments, values = meanings(), base_config()
  lines = [
    "# Configuration",
    "",
    "Generated from `configs/base.py` by `python -m alphaecoli.config`; a test keeps it so.",
    "Override any key on the command line: `--config.train.steps=2000`. Commas separate elements",
    "of a tuple (`--config.data.exclude_gene_types=phantom,pseudogene`); given twice it adds up.",
    "",
    "| key | type | value | meaning |",
    "| --- | --- | --- | --- |",
  ]
  for name, kind in key_types().items():
    hint = str(kind) if typing.get_origin(kind) else kind.__name__
    value: Any = values
    for part in name.split("."):
      value = value[part]
    value = value.to_dict() if isinstance(value, ConfigDict) else value
    lines.append(f"| `{name}` | {hint} | `{value!r}` | {comments[name]} |")
  return "\n".join(lines) + "\n"


def meanings() -> dict[str, str]:
  """Reads what each key means: its comment in configs/base.py."""
  text = (configs_dir() / "base.py").read_text()
  comments = dict(re.findall(r"^  (\w+\.\w+) = .*?  # (.*)$", text, re.MULTILINE))
  leaves = {name: name.split(".")[-2:] for name in key_names()}
  found = {name: comments.get(".".join(leaf), "") for name, leaf in leaves.items()}
  return found | {f"loss.weights.{head.name}": head.loss_words for head in HEADS.values()}


if __name__ == "__main__":
  print(reference(), end="")
