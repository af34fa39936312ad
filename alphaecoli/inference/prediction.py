"""The tracks of a sequence, and the units of their values."""

import dataclasses

import numpy as np
from jaxtyping import Float32

from alphaecoli.errors import ConfigError
from alphaecoli.tracks.table import TrackTable

UNITS = {"log_tpm": "ln(1 + TPM)", "tpm": "TPM", "z": "z-score of ln(1 + TPM)"}
TRACK_UNITS = {"gene_density": "genes per 128 bp", "operon_membership": "probability"}


@dataclasses.dataclass(frozen=True)
class Prediction:
  """The tracks of one contig or of a stretch of it.

  Attributes:
    gene_expression: in `units`, one row a base.
    gene_density: genes per 128 bp bin. Bins start at the contig's start; the last one may reach
      past its end.
    operon_membership: probability that the base lies in an operon of several genes.
    table: the tracks' names, transform and statistics.
    units: log_tpm (natural log of 1 + TPM), tpm or z.
    start: first base, a multiple of 128; 0 for a whole contig.
    circular: whether the contig was read as a ring.

  The values of a head that was not trained are NaN.
  """

  gene_expression: Float32[np.ndarray, "S T"]
  gene_density: Float32[np.ndarray, "N 1"]
  operon_membership: Float32[np.ndarray, "S 1"]
  table: TrackTable
  units: str = "log_tpm"
  start: int = 0
  circular: bool = False

  @property
  def tracks(self) -> tuple[str, ...]:
    """Names of the expression tracks, in the order of the columns."""
    return self.table.names

  @property
  def end(self) -> int:
    """The base after the last."""
    return self.start + len(self.operon_membership)

  @property
  def track_units(self) -> dict[str, str]:
    """Units of each head's values, in words."""
    return {"gene_expression": UNITS[self.units], **TRACK_UNITS}

  def in_units(self, units: str) -> "Prediction":
    """The same prediction with expression in other units.

    From tpm there is no way back to log TPM below 0, which the linear head can give.
    """
    check_units(units)
    values = self.gene_expression
    if self.units == units:
      return self
    mean = np.array([t.mean for t in self.table.expression], np.float32)
    std = np.array([t.std for t in self.table.expression], np.float32)
    if self.units != "z":
      values = ((np.log1p(values) if self.units == "tpm" else values) - mean) / std
    return dataclasses.replace(self, gene_expression=from_z(values, units, self.table), units=units)


def from_z(values: np.ndarray, units: str, table: TrackTable) -> Float32[np.ndarray, "S T"]:
  """Converts z-scores to the units asked for."""
  if units == "log_tpm":
    values = table.to_log_tpm(values)
  elif units == "tpm":
    values = table.to_tpm(values)
  return np.asarray(values, np.float32)


def check_units(units: str) -> None:
  """Checks the name of the expression units.

  Raises:
    ConfigError: not log_tpm, tpm or z.
  """
  if units not in UNITS:
    raise ConfigError(f"units={units!r}; expected one of {', '.join(UNITS)}")
