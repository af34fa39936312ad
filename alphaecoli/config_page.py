"""Writes docs/configuration.md: `python -m alphaecoli.config_page > docs/configuration.md`."""

import re
import typing
from typing import Any

from ml_collections import ConfigDict

from alphaecoli import config
from alphaecoli.schema import Config


def reference() -> str:
  """docs/configuration.md: every key of configs/base.py with its type, value and meaning."""
  hints = {}
  for name in config.key_names():
    kind: Any = Config
    for part in map(config.attribute, name.split(".")):
      kind = typing.get_type_hints(kind)[part]
    hints[name] = kind.__name__ if typing.get_origin(kind) is None else str(kind)
  comments = meanings()
  values = config.base_config()
  lines = [
    "# Configuration",
    "",
    "Generated from `configs/base.py` by `python -m alphaecoli.config_page`; a test keeps it so.",
    "Override any key on the command line: `--config.train.steps=2000`.",
    "",
    "| key | type | value | meaning |",
    "| --- | --- | --- | --- |",
  ]
  for name in config.key_names():
    value: Any = values
    for part in map(config.attribute, name.split(".")):
      value = value[part]
    value = value.to_dict() if isinstance(value, ConfigDict) else value
    lines.append(f"| `{name}` | {hints[name]} | `{value!r}` | {comments[name]} |")
  return "\n".join(lines) + "\n"


def meanings() -> dict[str, str]:
  """What each key means: its comment in configs/base.py."""
  text = (config.configs_dir() / "base.py").read_text()
  comments = dict(re.findall(r"^  (\w+\.\w+) = .*?  # (.*)$", text, re.MULTILINE))
  leaves = {name: map(config.attribute, name.split(".")[-2:]) for name in config.key_names()}
  return {name: comments.get(".".join(leaf), "") for name, leaf in leaves.items()}


if __name__ == "__main__":
  print(reference(), end="")
