"""alphaecoli: sequence-to-function models of bacterial genomes, in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
  from alphaecoli.api import Predictor, load_predictor
  from alphaecoli.genomics.intervals import Interval
  from alphaecoli.genomics.read import read_elements
  from alphaecoli.genomics.vcf import Variant
  from alphaecoli.inference.arguments import read_genome
  from alphaecoli.inference.prediction import Request
  from alphaecoli.plotting.logo import draw_logo
  from alphaecoli.tracks.store import open_store

# Where the public names live; they are imported when first used, so that the package imports fast.
_PUBLIC = {
  "Interval": "alphaecoli.genomics.intervals",
  "Predictor": "alphaecoli.api",
  "Request": "alphaecoli.inference.prediction",
  "Variant": "alphaecoli.genomics.vcf",
  "draw_logo": "alphaecoli.plotting.logo",
  "load_predictor": "alphaecoli.api",
  "open_store": "alphaecoli.tracks.store",
  "read_elements": "alphaecoli.genomics.read",
  "read_genome": "alphaecoli.inference.arguments",
}

__all__ = [
  "Interval",
  "Predictor",
  "Request",
  "Variant",
  "__version__",
  "draw_logo",
  "load_predictor",
  "open_store",
  "read_elements",
  "read_genome",
]


def __getattr__(name: str) -> Any:
  """Imports a public call when it is first used."""
  if name not in _PUBLIC:
    raise AttributeError(f"module 'alphaecoli' has no attribute '{name}'")
  return getattr(importlib.import_module(_PUBLIC[name]), name)
