"""Effects of sequence changes, as numbers with names: one for each track and head.

A row of values ("channels") holds ln(1 + TPM) of every expression track, then genes per 128 bp,
then the probability to lie in an operon; an effect is the difference of two such rows.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Float64, Int

from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.table import TrackTable

Effect = Float64[np.ndarray, " C"]
HEAD_NAMES = {
  "gene_expression": "expression",
  "gene_density": "density",
  "operon_membership": "membership",
}
CHANGE_UNITS = {
  "expression": "change of ln(1 + TPM)",
  "density": "change of genes per 128 bp",
  "membership": "change of probability",
}


def channel_names(table: TrackTable, where: str = "") -> list[str]:
  """Column names: `expression_<where>:<track>` …, `density_<where>`, `membership_<where>`."""
  suffix = f"_{where}" if where else ""
  tracks = [f"expression{suffix}:{track}" for track in table.names]
  return [*tracks, f"density{suffix}", f"membership{suffix}"]


def channels(
  outputs: Mapping[str, np.ndarray], table: TrackTable, length_bp: int
) -> Float32[np.ndarray, "W C"]:
  """A stretch's outputs as one row a base; a bin's density stands at each of its bases.

  Args:
    outputs: z-scores, genes per bin and probabilities of the heads that were trained.
    table: the tracks.
    length_bp: bases of the stretch.

  Returns:
    NaN for heads that were not trained.
  """
  values = np.full((length_bp, len(table.names) + 2), np.nan, np.float32)
  if "gene_expression" in outputs:
    values[:, :-2] = table.to_log_tpm(outputs["gene_expression"])
  if "gene_density" in outputs:
    values[:, -2] = np.repeat(outputs["gene_density"][:, 0], BIN_BP)[:length_bp]
  if "operon_membership" in outputs:
    values[:, -1] = outputs["operon_membership"][:, 0]
  return values


def mean_over(values: Float32[np.ndarray, "W C"], rows: Int[np.ndarray, " n"] | slice) -> Effect:
  """The mean over some bases; those without a value do not count. NaN where none has one."""
  chosen = values[rows].astype(np.float64)
  known = ~np.isnan(chosen)
  count = known.sum(axis=0)
  total = np.where(known, chosen, 0.0).sum(axis=0)
  return np.where(count, total / np.maximum(count, 1), np.nan)


def largest(values: Float32[np.ndarray, "W C"], rows: slice) -> Effect:
  """The largest value; NaN where no base has one."""
  chosen = values[rows].astype(np.float64)
  known = ~np.isnan(chosen)
  most = np.where(known, chosen, -np.inf).max(axis=0, initial=-np.inf)
  return np.where(known.any(axis=0), most, np.nan)
