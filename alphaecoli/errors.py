"""Failures that a user can mend: one line each, no traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """An expected failure. Its text says where, what was found, what was expected, what to do."""

  exit_code = 1


class ConfigError(UserError):
  """A bad command line or configuration."""

  exit_code = 2


class DataError(UserError):
  """An input file that is missing, broken or not what it should be."""


def nearest(name: str, names: Iterable[str], most: int = 1, cutoff: float = 0.0) -> str:
  """Returns the names most similar to an unknown one, for the hint of an error.

  Args:
    name: unknown name.
    names: valid names.
    most: largest number of names in the hint.
    cutoff: least similarity, from 0 (any name) to 1 (equal).

  Returns:
    Names with commas between, the most similar one first; "" if none is similar enough.
  """
  return ", ".join(difflib.get_close_matches(name, list(names), most, cutoff))
