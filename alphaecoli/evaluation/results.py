"""What an evaluation found: metrics beside baselines, as a table and as JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import special

from alphaecoli.evaluation import metrics
from alphaecoli.evaluation.rivals import RIVAL_COLUMNS, Rivals
from alphaecoli.evaluation.split_arrays import Layout
from alphaecoli.schema import HEADS

FORMAT_VERSION = 1
BASELINES = {
  **{head.name: head.baseline for head in HEADS.values()},
  **dict.fromkeys(
    (
      f"{head}/{pairs}_auroc"
      for head in ("operon_membership", "operon_junction")
      for pairs in ("pairs", "experimental_pairs")
    ),
    "negative distance between the genes",
  ),
  "operon_pairs/annotated_auroc": "negative distance between the genes",
}
# Metrics over the same values and labels, so that the rivals of one are those of the other.
_SAME = {
  "operon_junction/pairs_auroc": "operon_membership/pairs_auroc",
  "operon_junction/experimental_pairs_auroc": "operon_membership/experimental_pairs_auroc",
  "operon_junction/bases_auroc": "operon_membership/auroc",
  "operon_pairs/annotated_auroc": "operon_membership/pairs_auroc",
  "gene_expression/annotated_r2": "gene_expression/genes_r2",
  "gene_expression/annotated_coding_r2": "gene_expression/coding_genes_r2",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
  """One line of a report.

  Attributes:
    name: head/metric, with /track for one of several expression tracks.
    model: the model's value; NaN where undefined.
    baseline: the same of the baseline on the same values.
    n: number of values it was computed from.
    over: what these are: genes, bases, bins or pairs.
  """

  name: str
  model: float
  baseline: float
  n: int
  over: str


@dataclasses.dataclass(frozen=True)
class Predictions:
  """What the metrics were computed from, for plots and tables of genes.

  Attributes:
    layout: where the regions of the split lie in the arrays.
    bases: per head the raw outputs over split positions, (n, T); NaN where no window has passed.
      Density stands at the first base of each bin.
    targets: the same of the targets, NaN where unknown.
    genes: columns over the genes that lie fully in the split.
    pairs: columns over adjacent same-strand gene pairs.
  """

  layout: Layout
  bases: Mapping[str, np.ndarray]
  targets: Mapping[str, np.ndarray]
  genes: Mapping[str, np.ndarray]
  pairs: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Report:
  """The metrics of one split.

  Attributes:
    split: train, validation or test.
    n_bases: bases of the split.
    metrics: in the order of the table.
    skipped: reason, by head without metrics.
    predictions: arrays behind the metrics; not in the JSON.
    rivals: simple rules on the same values, where they were asked for.
  """

  split: str
  n_bases: int
  metrics: tuple[Metric, ...]
  skipped: Mapping[str, str]
  predictions: Predictions
  rivals: Rivals | None = None

  def scalars(self) -> dict[str, float]:
    """Returns the model's defined values by name, such as loss/total."""
    return {m.name: m.model for m in self.metrics if np.isfinite(m.model)}

  def to_json(self) -> dict[str, Any]:
    """Returns metrics, baselines, counts and the calibration curve; undefined values are None."""
    return {
      "format": "alphaecoli-evaluation",
      "format_version": FORMAT_VERSION,
      "split": self.split,
      "n_bases": self.n_bases,
      "baselines": BASELINES,
      "skipped": dict(self.skipped),
      "metrics": {
        m.name: {
          "model": metrics.finite_or_none(m.model),
          "baseline": metrics.finite_or_none(m.baseline),
          "n": m.n,
          "over": m.over,
        }
        for m in self.metrics
      },
      "calibration": self._calibration(),
      **({} if self.rivals is None else {"rivals": self.rivals.to_json()}),
    }

  def _calibration(self) -> dict[str, list[Any]] | None:
    """Returns the reliability of the operon head over the split; None where it is skipped."""
    head = "operon_membership"
    if head in self.skipped:
      return None
    target, logit = (a[head][:, 0] for a in (self.predictions.targets, self.predictions.bases))
    mask = ~np.isnan(target)
    curve = metrics.reliability(target[mask], special.expit(logit[mask].astype(np.float64)))
    return {
      "n": curve.n.tolist(),
      "probability": [metrics.finite_or_none(v) for v in curve.probability],
      "label": [metrics.finite_or_none(v) for v in curve.label],
    }

  def table(self) -> str:
    """Formats the metrics as text of fixed width; a dash where a value is undefined."""
    columns = [] if self.rivals is None else [self.rivals.column(c) for c in RIVAL_COLUMNS]
    names = {m.name for m in self.metrics}
    alone = {k: v for column in columns for k, v in column.items() if k not in names}
    nan = float("nan")
    rows = [*self.metrics, *(Metric(k, nan, nan, v.n, v.over) for k, v in alone.items())]
    width = max([len(m.name) for m in rows] + [len("metric")])
    titles = ["model", "baseline", *(RIVAL_COLUMNS if columns else ()), "n"]
    lines = [
      f"{self.split} split, {self.n_bases:,} bases",
      f"{'metric':<{width}}" + "".join(f"  {title:>9}" for title in titles),
    ]
    for f in rows:
      name = _SAME.get(f.name, f.name)
      of_rivals = (column[name].value if name in column else nan for column in columns)
      values = "".join(f"  {_number(v):>9}" for v in (f.model, f.baseline, *of_rivals))
      lines.append(f"{f.name:<{width}}{values}  {f.n:>9,} {f.over}")
    lines += [f"{head}: skipped, {why}" for head, why in self.skipped.items()]
    lines.append(
      "baselines: training mean of each target; for pairs, the distance between the genes"
    )
    lines += [] if self.rivals is None else self.rivals.notes()
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class OrganismReports:
  """The metrics of one split of several organisms, by name; used like a `Report`."""

  reports: Mapping[str, Report]

  def scalars(self) -> dict[str, float]:
    """Returns means over the organisms that have a metric, then each organism's as NAME/metric."""
    each = {name: report.scalars() for name, report in self.reports.items()}
    keys = dict.fromkeys(key for values in each.values() for key in values)
    means = {k: float(np.mean([v[k] for v in each.values() if k in v])) for k in keys}
    return means | {f"{name}/{k}": v for name, values in each.items() for k, v in values.items()}

  def to_json(self) -> dict[str, Any]:
    """Returns each organism's report."""
    return {"organisms": {name: report.to_json() for name, report in self.reports.items()}}

  def table(self) -> str:
    """Formats one table after the other."""
    return "\n\n".join(f"{name}: {report.table()}" for name, report in self.reports.items())


def _number(value: float) -> str:
  """Formats four decimals, or a dash."""
  return f"{value:.4f}" if np.isfinite(value) else "-"
