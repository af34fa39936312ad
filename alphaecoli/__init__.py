"""alphaecoli: sequence-to-function models of bacterial genomes, in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
  from alphaecoli.inference.load import load_predictor
  from alphaecoli.inference.reference import Interval, read_genome
  from alphaecoli.inference.vcf import Variant
  from alphaecoli.tracks.store import open_store

# Where the public calls live; they are imported when first used, so that the package imports fast.
_PUBLIC = {
  "Interval": "alphaecoli.inference.reference",
  "load_predictor": "alphaecoli.inference.load",
  "open_store": "alphaecoli.tracks.store",
  "read_genome": "alphaecoli.inference.reference",
  "Variant": "alphaecoli.inference.vcf",
}

__all__ = ["Interval", "Variant", "__version__", "load_predictor", "open_store", "read_genome"]


def __getattr__(name: str) -> Any:
  """Imports a public call when it is first used."""
  if name not in _PUBLIC:
    raise AttributeError(f"module 'alphaecoli' has no attribute '{name}'")
  return getattr(importlib.import_module(_PUBLIC[name]), name)
