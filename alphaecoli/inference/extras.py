"""Packages that only conversions and some formats need, imported when they are used."""

import importlib
from typing import Any

from alphaecoli.errors import ConfigError


def analysis(package: str) -> Any:
  """Imports pandas or xarray.

  Raises:
    ConfigError: it is not installed.
  """
  return optional(package, "analysis")


def optional(package: str, extra: str) -> Any:
  """Imports a package that comes with an extra.

  Raises:
    ConfigError: it is not installed.
  """
  try:
    return importlib.import_module(package)
  except ModuleNotFoundError as error:
    raise ConfigError(
      f"{error.name} is not installed and this needs it: pip install 'alphaecoli[{extra}]'"
    ) from error
