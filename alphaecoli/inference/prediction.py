"""The tracks of a sequence, and the units of their values."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from alphaecoli.errors import ConfigError
from alphaecoli.inference.extras import analysis
from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.table import TrackTable

if TYPE_CHECKING:
  import pandas
  import xarray

UNITS = {"log_tpm": "ln(1 + TPM)", "tpm": "TPM", "z": "z-score of ln(1 + TPM)"}
TRACK_UNITS = {"gene_density": "genes per 128 bp", "operon_membership": "probability"}


@dataclasses.dataclass(frozen=True)
class Prediction:
  """The tracks of one contig or of a stretch of it.

  Attributes:
    gene_expression: in `units`, one row a base.
    gene_density: genes per 128 bp bin, from `start` on; the last one may reach past the end.
    operon_membership: probability that the base lies in an operon of several genes.
    table: the tracks' names, transform and statistics.
    units: log_tpm (natural log of 1 + TPM), tpm or z.
    start: first base, a multiple of 128; 0 for a whole contig. Only a single window
      (`one_window`) may start anywhere: below 0, say, on a ring.
    circular: whether the contig was read as a ring.
    contig: its name; empty where there is none.

  The values of a head that was not trained are NaN.
  """

  gene_expression: Float32[np.ndarray, "S T"]
  gene_density: Float32[np.ndarray, "N 1"]
  operon_membership: Float32[np.ndarray, "S 1"]
  table: TrackTable
  units: str = "log_tpm"
  start: int = 0
  circular: bool = False
  contig: str = ""

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

  def to_numpy(self) -> dict[str, np.ndarray]:
    """The arrays by head."""
    return {name: getattr(self, name) for name in ("gene_expression", *TRACK_UNITS)}

  def to_pandas(self) -> "pandas.DataFrame":
    """One row a base, indexed by its 0-based position; density is that of the base's bin.

    Columns are `gene_expression:<track>`, `gene_density` and `operon_membership`.

    Raises:
      ConfigError: pandas is not installed.
    """
    pandas = analysis("pandas")
    expression = zip(self.tracks, self.gene_expression.T, strict=True)
    columns = {f"gene_expression:{track}": values for track, values in expression}
    density = np.repeat(self.gene_density[:, 0], BIN_BP)[: self.end - self.start]
    columns |= {"gene_density": density, "operon_membership": self.operon_membership[:, 0]}
    index = pandas.RangeIndex(self.start, self.end, name="position")
    frame = pandas.DataFrame(columns, index=index)
    frame.attrs = {"contig": self.contig, "units": self.track_units}
    return frame

  def to_xarray(self) -> "xarray.Dataset":
    """The heads with coordinates position, bin (first base, 0-based), track and strand.

    Raises:
      ConfigError: xarray is not installed.
    """
    units = self.track_units
    bins = self.start + BIN_BP * np.arange(len(self.gene_density))
    coords: dict[str, Any] = {
      "position": ("position", np.arange(self.start, self.end), {"units": "bp, 0-based"}),
      "bin": ("bin", bins, {"units": "bp, 0-based"}),
      "track": list(self.tracks),
      "strand": ("track", [track.strand for track in self.table.expression]),
    }
    return analysis("xarray").Dataset(
      {
        name: (dims, values, {"units": units[name]})
        for name, dims, values in (
          ("gene_expression", ("position", "track"), self.gene_expression),
          ("gene_density", ("bin",), self.gene_density[:, 0]),
          ("operon_membership", ("position",), self.operon_membership[:, 0]),
        )
      },
      coords=coords,
      attrs={"contig": self.contig, "circular": int(self.circular)},
    )


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
