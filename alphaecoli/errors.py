"""Failures that a user can mend: one line each, no traceback."""

import contextlib
import difflib
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
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


def reason_of(error: BaseException, most: int = 200) -> str:
  """Returns the start of an error's text on one line, for the text of another; else its type."""
  text = " ".join(str(error).split())
  if not text or isinstance(error, KeyError):  # whose text is the key alone
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
  return text if len(text) <= most else f"{text[:most]}…"


@contextlib.contextmanager
def program_of_user(path: Path) -> Iterator[None]:
  """Makes one line of any failure of a Python file that the user wrote.

  Raises:
    ConfigError: it failed; says in which line and how.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:  # a program may fail in any way
    steps = traceback.extract_tb(error.__traceback__)
    lines = [str(step.lineno) for step in steps if step.filename == str(path)]
    at = getattr(error, "lineno", None) or (lines or ["?"])[-1]
    raise ConfigError(
      f"{path}, line {at}: {type(error).__name__}: {reason_of(error, 300)}"
    ) from error


def at_least(section: str, config: Any, **minimum: float) -> None:
  """Raises ConfigError where a value is below its minimum."""
  for name, low in minimum.items():
    value = getattr(config, name)
    if not value >= low:
      raise ConfigError(f"{section}.{name}={brief(value)}; expected at least {low}")


def fractions(section: str, config: Any, *names: str) -> None:
  """Raises ConfigError where a value is not in [0, 1)."""
  for name in names:
    value = getattr(config, name)
    if not 0 <= value < 1:
      raise ConfigError(f"{section}.{name}={brief(value)} is not in [0, 1)")


def one_of(section: str, config: Any, **choices: tuple[str, ...]) -> None:
  """Raises ConfigError where a value is none of its choices."""
  for name, allowed in choices.items():
    value = getattr(config, name)
    if value not in allowed:
      raise ConfigError(f"{section}.{name}={brief(value)}; expected {' or '.join(allowed)}")
