"""The former place of `alphaecoli.draw_logo`."""

import importlib
import warnings
from typing import Any


def draw_logo(*arguments: Any, **options: Any) -> None:
  """Calls `alphaecoli.draw_logo`, and warns that it lives there now."""
  warnings.warn(
    "alphaecoli.inference.logo.draw_logo is deprecated; use alphaecoli.draw_logo",
    DeprecationWarning,
    stacklevel=2,
  )
  importlib.import_module("alphaecoli").draw_logo(*arguments, **options)
