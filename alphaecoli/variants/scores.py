"""What variant scoring gives: rows of numbers with names, and their tables."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from scipy import special

from alphaecoli.files import optional
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.vcf import Variant
from alphaecoli.inference.tables import STRANDS
from alphaecoli.schema import BIN_BP
from alphaecoli.tracks.track_table import TrackTable

if TYPE_CHECKING:
  import pandas
  import xarray

Effect = Float64[np.ndarray, " C"]  # one value a channel
WHERE = ("at_variant", "in_gene", "in_operon", "mean_abs", "max_abs")
CHANGE_UNITS = {
  "expression": "change of ln(1 + TPM)",
  "density": "change of genes per 128 bp",
  "membership": "change of probability",
}


@dataclasses.dataclass(frozen=True)
class GeneEffect:
  """What a variant does to one gene that the window holds, at least in part.

  Attributes:
    gene: the gene.
    distance_bp: from the gene to the variant: 0 inside, -1 the base before its first base in
      reading direction, 1 the base after its last.
    affected: the variant lies inside or close upstream.
    share: of the gene's bases that are in the window and not deleted.
    reference: mean over those bases, without the variant.
    change: mean over those bases, with it minus without it.
    spread: deviation of the change over an ensemble's members.
    grid: half of the 95% interval of the change over the windows' offsets; None with one offset.
  """

  gene: Gene
  distance_bp: int
  affected: bool
  share: float
  reference: Effect
  change: Effect
  spread: Effect | None = None
  grid: Effect | None = None


@dataclasses.dataclass(frozen=True)
class VariantScore:
  """What one alternative allele does.

  Attributes:
    variant: the allele.
    reason: why it was refused; empty if it was scored.
    window: first base of the model's window and the base after its last one, 0-based; on a circular
      contig, positions below 0 or past the end count around the origin.
    changes: by name of the place, the change of each channel: `at_variant`, the mean over the bases
      of REF that the alternative keeps; `in_gene`, over the affected gene that changes most;
      `in_operon`, over the operon; `mean_abs` and `max_abs`, the mean and largest absolute change
      in the window.
    spreads: by name of the place, the deviation of these numbers over an ensemble's members.
    genes: all genes in the window.
    gene: the one of `in_gene`; None where no gene is affected.
    operon: 0-based interval of `in_operon`; None where there is none.
    grid: of `in_gene`, half of the 95% interval over the windows' offsets; None with one offset.
    quantile: share of random variants of the same kind whose `size` is smaller; None if not asked.
  """

  variant: Variant
  reason: str = ""
  window: tuple[int, int] | None = None
  changes: dict[str, Effect] = dataclasses.field(default_factory=dict)
  spreads: dict[str, Effect] = dataclasses.field(default_factory=dict)
  genes: tuple[GeneEffect, ...] = ()
  gene: GeneEffect | None = None
  operon: tuple[int, int] | None = None
  grid: Effect | None = None
  quantile: float | None = None

  @property
  def size(self) -> float:
    """Returns the mean absolute change of expression in the window, over all tracks."""
    return float(np.mean(self.changes["mean_abs"][:-2]))


@dataclasses.dataclass(frozen=True)
class VariantScores:
  """Scores of variants in their order, the tracks they are about, whether they have spreads."""

  scores: tuple[VariantScore, ...]
  table: TrackTable
  has_spread: bool = False

  def __len__(self) -> int:
    return len(self.scores)

  def to_numpy(self) -> dict[str, Float[np.ndarray, "V C"]]:
    """Returns arrays by place: one row a variant, one column a channel; NaN for refused variants.

    Channels are the expression tracks, density and membership. An ensemble's deviations follow,
    by `<place>_spread`.
    """
    empty = np.full(len(self.table.names) + 2, np.nan)

    def rows(values: list[dict[str, Effect]], where: str) -> np.ndarray:
      return np.array([v.get(where, empty) for v in values]).reshape(-1, len(empty))

    found = {where: rows([s.changes for s in self.scores], where) for where in WHERE}
    if self.has_spread:
      spreads = [s.spreads for s in self.scores]
      found |= {f"{where}_spread": rows(spreads, where) for where in WHERE}
    return found

  def to_pandas(self) -> "pandas.DataFrame":
    """Returns one row a variant, with the columns of the command's table; `pos` is 1-based.

    Raises:
      ConfigError: pandas is not installed.
    """
    rows = [score_row(score, self.table, self.has_spread) for score in self.scores]
    columns = score_columns(self.table, self.has_spread)
    return optional("pandas", "analysis").DataFrame(rows, columns=columns)

  def genes_to_pandas(self) -> "pandas.DataFrame":
    """Returns one row for each variant and gene in its window.

    Raises:
      ConfigError: pandas is not installed.
    """
    rows = [row for score in self.scores for row in gene_rows(score)]
    return optional("pandas", "analysis").DataFrame(
      rows, columns=gene_columns(self.table, self.has_spread)
    )

  def to_xarray(self) -> "xarray.Dataset":
    """Makes a data set of `expression_<where>` (variant, track), `density_<where>` and so on.

    Raises:
      ConfigError: xarray is not installed.
    """
    data: dict[str, Any] = {}
    for where, values in self.to_numpy().items():
      data |= change_variables(values, ("variant",), f"_{where}")
    variants = [score.variant for score in self.scores]
    coords = {
      "variant": [str(variant) for variant in variants],
      "contig": ("variant", [variant.contig for variant in variants]),
      "pos": ("variant", [variant.position for variant in variants], {"units": "bp, 1-based"}),
      "reason": ("variant", [score.reason for score in self.scores]),
      "track": list(self.table.names),
      "strand": ("track", [track.strand for track in self.table.expression]),
    }
    return optional("xarray", "analysis").Dataset(data, coords=coords)


def score_columns(table: TrackTable, has_spread: bool = False) -> list[str]:
  """Names the columns of the table of variants. Positions are 1-based, intervals inclusive."""
  places_of_change = [*WHERE, *(f"{where}_spread" for where in WHERE if has_spread)]
  fixed = ["contig", "pos", "id", "ref", "alt", "status", "reason", "window_start", "window_end"]
  places = ["gene", "gene_name", "gene_distance_bp", "affected_genes"]
  operon = ["operon_start", "operon_end", "within_grid_shift", "quantile"]
  return [*fixed, *places, *operon, *(c for w in places_of_change for c in channel_names(table, w))]


def score_row(score: VariantScore, table: TrackTable, has_spread: bool = False) -> list[Any]:
  """Makes one row of the table of variants; None where there is no value."""
  variant = score.variant
  row: list[Any] = [variant.contig, variant.position, variant.id, variant.ref, variant.alt]
  if score.reason:
    row += ["refused", score.reason]
    return row + [None] * (len(score_columns(table, has_spread)) - len(row))
  row += ["ok", "", *_inclusive(score.window)]
  affected = ",".join(gene_label(effect.gene) for effect in score.genes if effect.affected)
  best = score.gene
  row += [
    None if best is None else gene_label(best.gene),
    None if best is None else best.gene.name,
    None if best is None else best.distance_bp,
    affected,
    *_inclusive(score.operon),
    within_grid_shift(score.changes["in_gene"], score.grid),
    score.quantile,
  ]
  numbers = [score.changes, score.spreads] if has_spread else [score.changes]
  return row + [value for part in numbers for where in WHERE for value in part[where].tolist()]


def gene_columns(table: TrackTable, has_spread: bool = False) -> list[str]:
  """Names the columns of the table of variants and genes."""
  fixed = ["contig", "pos", "id", "ref", "alt", "gene", "gene_name", "strand", "distance_bp"]
  numbers = [*channel_names(table, "reference"), *channel_names(table, "change")]
  numbers += channel_names(table, "change_spread") if has_spread else []
  return [*fixed, "affected", "share", "within_grid_shift", *numbers, *channel_names(table, "grid")]


def gene_rows(score: VariantScore) -> list[list[Any]]:
  """Makes the rows of the table of variants and genes for one variant: none if it was refused."""
  variant = score.variant
  first = [variant.contig, variant.position, variant.id, variant.ref, variant.alt]
  return [
    [
      *first,
      gene_label(effect.gene),
      effect.gene.name,
      STRANDS[effect.gene.strand],
      effect.distance_bp,
      int(effect.affected),
      effect.share,
      within_grid_shift(effect.change, effect.grid),
      *effect.reference.tolist(),
      *effect.change.tolist(),
      *(() if effect.spread is None else effect.spread.tolist()),
      *(np.full(len(effect.change), np.nan) if effect.grid is None else effect.grid).tolist(),
    ]
    for effect in score.genes
  ]


def gene_label(gene: Gene) -> str:
  """Returns what a gene is called in tables: its locus tag, else its id."""
  return gene.locus_tag or gene.id


def _inclusive(interval: tuple[int, int] | None) -> tuple[int | None, int | None]:
  """Converts an interval to first and last base, 1-based."""
  return (None, None) if interval is None else (interval[0] + 1, interval[1])


def channel_names(table: TrackTable, where: str = "") -> list[str]:
  """Names columns: `expression_<where>:<track>` …, `density_<where>`, `membership_<where>`."""
  suffix = f"_{where}" if where else ""
  tracks = [f"expression{suffix}:{track}" for track in table.names]
  return [*tracks, f"density{suffix}", f"membership{suffix}"]


def change_variables(
  values: Float[np.ndarray, "*S C"], axes: tuple[str, ...], suffix: str = ""
) -> dict[str, Any]:
  """Returns changes as variables of an xarray.Dataset: expression, density and membership.

  Args:
    values: changes, their channels last.
    axes: names of the other axes.
    suffix: end of the variables' names.
  """
  parts = {
    "expression": ((*axes, "track"), values[..., :-2]),
    "density": (axes, values[..., -2]),
    "membership": (axes, values[..., -1]),
  }
  units = {name: {"units": CHANGE_UNITS[name]} for name in parts}
  return {f"{name}{suffix}": (*part, units[name]) for name, part in parts.items()}


def channels(
  outputs: Mapping[str, np.ndarray], table: TrackTable, length_bp: int
) -> Float32[np.ndarray, "W C"]:
  """Arranges the outputs of an interval as one row a base; density is repeated over its bin.

  Args:
    outputs: z-scores, genes per bin and probabilities of the heads that were trained.
    table: tracks of the model.
    length_bp: bases of the interval.

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


def mean_of(members: Sequence[np.ndarray]) -> np.ndarray:
  """Averages the values of an ensemble's members; those of a single model are as they are."""
  return members[0] if len(members) == 1 else np.mean(np.stack(members), axis=0)


def mean_over(values: Float32[np.ndarray, "W C"], rows: Int[np.ndarray, " n"] | slice) -> Effect:
  """Computes the mean over those of some bases that have a value; NaN where none has one."""
  chosen = values[rows].astype(np.float64)
  mask = ~np.isnan(chosen)
  count = mask.sum(axis=0)
  total = np.where(mask, chosen, 0.0).sum(axis=0)
  return np.where(count, total / np.maximum(count, 1), np.nan)


def largest(values: Float32[np.ndarray, "W C"], rows: slice) -> Effect:
  """Computes the largest value; NaN where no base has one."""
  chosen = values[rows].astype(np.float64)
  mask = ~np.isnan(chosen)
  most = np.where(mask, chosen, -np.inf).max(axis=0, initial=-np.inf)
  return np.where(mask.any(axis=0), most, np.nan)


def half_width(samples: Sequence[Effect]) -> Effect:
  """Computes half of the 95% interval of the mean of samples, by Student's t distribution."""
  n = len(samples)
  deviation = np.std(np.stack(samples), axis=0, ddof=1)
  return np.asarray(special.stdtrit(n - 1, 0.975) * deviation / np.sqrt(n))


def within_grid_shift(change: Effect, grid: Effect | None) -> int | None:
  """Tells whether no expression track changes by more than the windows' places alone explain.

  Returns:
    1 or 0; None where only one place was tried, or nothing is known of expression.
  """
  if grid is None or np.isnan(change[:-2]).all():
    return None
  return int((np.abs(change) <= grid)[:-2][~np.isnan(change[:-2])].all())
