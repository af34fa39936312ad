"""alphaecoli: sequence-to-function models of bacterial genomes, in JAX."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
  from alphaecoli.inference.predictor import load_predictor
  from alphaecoli.tracks.store import open_store

__all__ = ["__version__", "load_predictor", "open_store"]


def __getattr__(name: str) -> Any:
  """Imports the public calls when they are first used, so that the package imports quickly."""
  if name == "open_store":
    from alphaecoli.tracks.store import open_store

    return open_store
  if name == "load_predictor":
    from alphaecoli.inference.predictor import load_predictor

    return load_predictor
  raise AttributeError(f"module 'alphaecoli' has no attribute '{name}'")
