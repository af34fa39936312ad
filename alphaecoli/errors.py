"""Failures that a user can mend: one line each, no traceback."""


class UserError(Exception):
  """An expected failure. Its text says where, what was found, what was expected, what to do."""

  exit_code = 1


class ConfigError(UserError):
  """A bad command line or configuration."""

  exit_code = 2


class DataError(UserError):
  """An input file that is missing, broken or not what it should be."""
