"""What is asked of a model and what it gives: requests, predictions, embeddings, and their units.

Order: units, `Request`, `Prediction` and how it is filled, `Embeddings`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from alphaecoli.errors import ConfigError
from alphaecoli.files import optional
from alphaecoli.inference.tiling import Tile, n_bins
from alphaecoli.schema import BIN_BP, HEADS, PAIR_BP
from alphaecoli.tracks.exposure import Origin
from alphaecoli.tracks.track_table import TrackTable

if TYPE_CHECKING:
  import pandas
  import xarray

PARQUET = "parquet"  # the tables alone
BIGWIG, BROWSER, GENBANK = "bigwig", "browser", "genbank"
FORMATS = (BIGWIG, BROWSER, GENBANK, "bedgraph", "bedgraph.gz", "npz", "zarr", PARQUET)
OPERON_THRESHOLD = 0.5  # probability from which genes, or bases, share an operon
UNITS = {"log_tpm": "ln(1 + TPM)", "tpm": "TPM", "z": "z-score of ln(1 + TPM)"}
TRACK_HEADS = tuple(head.name for head in HEADS.values() if not head.auxiliary)
TRACK_UNITS = {name: HEADS[name].units for name in TRACK_HEADS if HEADS[name].units}


def from_z(values: np.ndarray, units: str, table: TrackTable) -> Float32[np.ndarray, "S T"]:
  """Converts z-scores to the units asked for."""
  if units == "log_tpm":
    values = table.to_log_tpm(values)
  elif units == "tpm":
    values = table.to_tpm(values)
  return np.asarray(values, np.float32)


def spread_of(members: Any, axis: int = 0) -> Any:
  """Computes the standard deviation over an ensemble's members, along one axis.

  With n - 1: the members are a sample of the models that training could have given.
  """
  return np.std(np.asarray(members), axis=axis, ddof=1)


def check_units(units: str) -> None:
  """Checks the name of the expression units.

  Raises:
    ConfigError: not log_tpm, tpm or z.
  """
  if units not in UNITS:
    raise ConfigError(f"units={units!r}; expected one of {', '.join(UNITS)}")


@dataclasses.dataclass(frozen=True)
class Request:
  """What to predict: a contig and how to read it.

  Attributes:
    codes: its bases, 0 to 4.
    circular: whether its end joins its start.
    interval: (start, end) within 0 to L to predict instead of all of it; widened to whole bins.
    contig: its name.
    one_window: the interval is the model's window itself: as long, anywhere, also across the
      origin of a circular contig or (over unknown bases) the ends of a linear contig.
  """

  codes: UInt8[np.ndarray, " L"]
  circular: bool = False
  interval: tuple[int, int] | None = None
  contig: str = ""
  one_window: bool = False


def whole_bins(interval: tuple[int, int] | None, length_bp: int) -> tuple[int, int]:
  """Widens an interval to whole bins, within the contig.

  Raises:
    ConfigError: the interval is not within the contig.
  """
  if interval is None:
    return 0, length_bp
  start, end = interval
  if not 0 <= start < end <= length_bp:
    raise ConfigError(
      f"interval {start}-{end} is not within the sequence: 0 <= start < end <= {length_bp}"
    )
  return start // BIN_BP * BIN_BP, min(n_bins(end) * BIN_BP, length_bp)


@dataclasses.dataclass(frozen=True)
class Prediction:
  """The tracks of one contig or of an interval of it.

  Attributes:
    gene_expression: in `units`, one row a base.
    gene_density: genes per 128 bp bin, from `start` on; the last one may reach past the end.
    operon_membership: probability that the base lies in an operon of several genes.
    table: the tracks' names, transform and statistics.
    units: log_tpm (natural log of 1 + TPM), tpm or z.
    start: first base, a multiple of 128; 0 for a whole contig. Only a single window
      (`one_window`) may start anywhere: below 0, say, on a circular contig.
    circular: whether the contig was read as circular.
    contig: its name; empty where there is none.
    gene_structure: probabilities of each base, on the forward and then on the reverse strand: to be
      the first, second and third of a codon, and to lie in an RNA gene.
    operon_junction: probability that the two genes beside a base share an operon, for genes of the
      forward and of the reverse strand.
    members: of an ensemble, whose mean this is, what each member predicts, without gene structure.
    origin: of an ensemble that knows what its members were trained on, who predicted what.

  The values of a head that was not trained are NaN; the two arrays of auxiliary heads are empty
  where theirs was not, and where a prediction was read from files.
  """

  gene_expression: Float32[np.ndarray, "S T"]
  gene_density: Float32[np.ndarray, "N 1"]
  operon_membership: Float32[np.ndarray, "S 1"]
  table: TrackTable
  units: str = "log_tpm"
  start: int = 0
  circular: bool = False
  contig: str = ""
  gene_structure: Float32[np.ndarray, "G 8"] = dataclasses.field(
    default_factory=lambda: np.zeros((0, 8), np.float32)
  )
  operon_junction: Float32[np.ndarray, "J 2"] = dataclasses.field(
    default_factory=lambda: np.zeros((0, 2), np.float32)
  )
  members: tuple["Prediction", ...] = ()
  origin: Origin | None = None

  @property
  def tracks(self) -> tuple[str, ...]:
    """Returns the names of the expression tracks, in the order of the columns."""
    return self.table.names

  @property
  def end(self) -> int:
    """Returns the base after the last."""
    return self.start + len(self.operon_membership)

  @property
  def track_units(self) -> dict[str, str]:
    """Returns the units of each head's values, in words."""
    return {"gene_expression": UNITS[self.units], **TRACK_UNITS}

  def in_units(self, units: str) -> "Prediction":
    """Converts to a prediction with expression in other units.

    From tpm there is no way back to log TPM below 0, which the linear head can give.
    """
    check_units(units)
    values = self.gene_expression
    if self.units == units:
      return self
    if self.units != "z":
      values = self.table.to_z(np.log1p(values) if self.units == "tpm" else values)
    return dataclasses.replace(
      self,
      gene_expression=from_z(values, units, self.table),
      units=units,
      members=tuple(member.in_units(units) for member in self.members),
    )

  @functools.cached_property
  def spread(self) -> dict[str, np.ndarray]:
    """Computes the deviation over an ensemble's members by head; empty for a single model."""
    each = [member.to_numpy() for member in self.members]
    return {name: spread_of([values[name] for values in each]) for name in TRACK_HEADS if each}

  def to_numpy(self) -> dict[str, np.ndarray]:
    """Returns the arrays of the tracks by head."""
    return {name: getattr(self, name) for name in TRACK_HEADS}

  def to_pandas(self) -> "pandas.DataFrame":
    """Makes a table of one row a base, by 0-based position; density is that of the base's bin.

    Columns are `gene_expression:<track>`, `gene_density` and `operon_membership`.

    Raises:
      ConfigError: pandas is not installed.
    """
    pandas = optional("pandas", "analysis")
    expression = zip(self.tracks, self.gene_expression.T, strict=True)
    columns = {f"gene_expression:{track}": values for track, values in expression}
    density = np.repeat(self.gene_density[:, 0], BIN_BP)[: self.end - self.start]
    columns |= {"gene_density": density, "operon_membership": self.operon_membership[:, 0]}
    index = pandas.RangeIndex(self.start, self.end, name="position")
    frame = pandas.DataFrame(columns, index=index)
    frame.attrs = {"contig": self.contig, "units": self.track_units}
    return frame

  def to_xarray(self) -> "xarray.Dataset":
    """Makes a data set with coordinates position, bin (first base, 0-based), track and strand.

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
    return optional("xarray", "analysis").Dataset(
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


class PendingPrediction:
  """The arrays of one request, filled tile by tile."""

  def __init__(
    self,
    request: Request,
    start: int,
    end: int,
    n_tiles: int,
    table: TrackTable,
    heads: Sequence[str] = TRACK_HEADS,
  ):
    self.request, self.start, self.end, self.tiles_left = request, start, end, n_tiles
    self.arrays = {
      name: np.full(table.shape(HEADS[name], end - start), np.nan, np.float32)
      for name in {*TRACK_HEADS, *heads}
    }

  def put(self, tile: Tile, outputs: dict[str, np.ndarray]) -> int:
    """Stores the kept part of a tile; returns its number of bases."""
    first, last = max(tile.start, self.start), min(tile.end, self.end)
    # The last bin may reach past the end, hence rounding up.
    for name, values in outputs.items():
      bp = HEADS[name].resolution_bp
      source = slice((first - tile.window_start) // bp, -(-(last - tile.window_start) // bp))
      target = slice((first - self.start) // bp, -(-(last - self.start) // bp))
      self.arrays[name][target] = values[source]
    self.tiles_left -= 1
    return last - first

  def finish(self, table: TrackTable, units: str) -> Prediction:
    """Returns the prediction, once no tile is left."""
    arrays: dict[str, Any] = self.arrays
    return Prediction(
      **{**arrays, "gene_expression": from_z(self.arrays["gene_expression"], units, table)},
      table=table,
      units=units,
      start=self.start,
      circular=self.request.circular,
      contig=self.request.contig,
    )


@dataclasses.dataclass(frozen=True)
class Embeddings:
  """Embeddings of one interval, all from one window of the model.

  Attributes:
    one_bp: one row a base, from `start` on.
    bins: one row a bin of 128 bp, from `start` on.
    pair: one row and one column for each 2,048 bp, from `pair_start` on.
    start: first base, 0-based.
    pair_start: first base of the pair embedding, at or before `start`.
    contig: name of the contig; empty where there is none.
    window: first base of the model's window and the base after its last one. On a circular
      contig, positions below 0 or past the end wrap around; elsewhere they stand for unknown bases.
  """

  one_bp: Float32[np.ndarray, "S C"]
  bins: Float32[np.ndarray, "N D"]
  pair: Float32[np.ndarray, "P P F"]
  start: int
  pair_start: int
  contig: str
  window: tuple[int, int]

  @property
  def end(self) -> int:
    """Returns the base after the last."""
    return self.start + len(self.one_bp)

  def to_numpy(self) -> dict[str, np.ndarray]:
    """Returns the arrays by name."""
    return {"one_bp": self.one_bp, "bins": self.bins, "pair": self.pair}

  def to_pandas(self, resolution: int = 1) -> "pandas.DataFrame":
    """Makes a table of one row a base (resolution 1) or bin (128), one column a feature.

    Raises:
      ConfigError: pandas is not installed.
      ValueError: another resolution; pairs have two axes: use `to_xarray`.
    """
    if resolution not in (1, BIN_BP):
      raise ValueError(f"resolution={resolution}; expected 1 or {BIN_BP}")
    values = self.one_bp if resolution == 1 else self.bins
    positions = self.start + resolution * np.arange(len(values))
    pandas = optional("pandas", "analysis")
    return pandas.DataFrame(values, index=pandas.Index(positions, name="position"))

  def to_xarray(self) -> "xarray.Dataset":
    """Makes a data set of the three arrays with coordinates: first base of each row, 0-based.

    Raises:
      ConfigError: xarray is not installed.
    """
    step = {"position": 1, "bin": BIN_BP}
    lengths = {"position": len(self.one_bp), "bin": len(self.bins)}
    coords: dict[str, Any] = {
      name: (name, self.start + bp * np.arange(lengths[name]), {"units": "bp, 0-based"})
      for name, bp in step.items()
    }
    for name in ("pair_row", "pair_column"):
      coords[name] = (name, self.pair_start + PAIR_BP * np.arange(len(self.pair)))
    return optional("xarray", "analysis").Dataset(
      {
        "one_bp": (("position", "feature"), self.one_bp),
        "bins": (("bin", "bin_feature"), self.bins),
        "pair": (("pair_row", "pair_column", "pair_feature"), self.pair),
      },
      coords=coords,
      attrs={"contig": self.contig, "start": self.start, "end": self.end},
    )
