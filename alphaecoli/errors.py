"""Failures that a user can mend: one line each, no traceback."""

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
  """An expected failure. Its text says where, what was found, what was expected, what to do."""

  exit_code = 1


class ConfigError(UserError):
  """A bad command line or configuration."""

  exit_code = 2


class DataError(UserError):
  """An input file that is missing, broken or not what it should be."""


def nearest(name: str, names: Iterable[str], count: int = 1, similarity: float = 0.0) -> str:
  """Returns the names most like a wrong one, joined by commas, for the text of an error.

  Args:
    name: name that was given.
    names: names that exist.
    count: largest number of names.
    similarity: least likeness, 0 to 1; "" where no name has it.
  """
  return ", ".join(difflib.get_close_matches(name, list(names), count, similarity))


def brief(value: Any, most: int = 100) -> str:
  """Returns the start of a value's representation, for the text of an error."""
  text = repr(value)
  return text if len(text) <= most else f"{text[:most]}…"


def at_least(section: str, config: Any, **minimum: float) -> None:
  """Raises ConfigError where a value is below its minimum."""
  for name, low in minimum.items():
    value = getattr(config, name)
    if not value >= low:
      raise ConfigError(f"{section}.{name}={value}; expected at least {low}")


def one_of(section: str, config: Any, **choices: tuple[str, ...]) -> None:
  """Raises ConfigError where a value is none of its choices."""
  for name, allowed in choices.items():
    value = getattr(config, name)
    if value not in allowed:
      raise ConfigError(f"{section}.{name}={value!r}; expected {' or '.join(allowed)}")
