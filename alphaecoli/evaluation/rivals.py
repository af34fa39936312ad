"""Simple rules that a user would try instead of the model, measured as the model is.

A rival is a rule without parameters, or a linear model or boosted trees that scikit-learn fits on
the training split; penalties, and which genes count as operon mates, are chosen on the validation
split. Genes, pairs, bases and bins are those of the model's metrics. What each one is:
docs/evaluation.md.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from alphaecoli.evaluation import metrics
from alphaecoli.evaluation.called_genes import EXTRA, call_accuracy, call_genes
from alphaecoli.evaluation.rival_fits import (
  AbsentError,
  Found,
  SplitData,
  Value,
  codon_ridge,
  density,
  operons,
  pair_model,
)
from alphaecoli.evaluation.training_fits import gene_trees, pair_trees
from alphaecoli.files import optional
from alphaecoli.tracks.replicons import divided
from alphaecoli.tracks.splits import TEST
from alphaecoli.tracks.store import TrackStore

RULE, FITTED, TREES = "rule", "fitted", "trees"  # the columns of the table
DESCRIPTIONS = {
  "codon_ridge": "ridge on codon use and the codons of likely operon mates, each gene once",
  "gene_trees": "boosted trees on codons, amino acids, promoter, operon mates, each gene once",
  "prodigal_gap": "Prodigal's genes; minus the smallest gap to a same-strand neighbour",
  "prodigal_gap_model": "Prodigal's genes; logistic model on both gaps and the length",
  "pair_gap": "minus the gap between the annotated genes",
  "pair_model": "logistic model on gap, neighbouring gaps, lengths, promoter, terminator, codons",
  "pair_trees": "boosted trees on what pair_model knows",
  "prodigal_density": "number of Prodigal's genes in the bin",
  "prodigal_density_model": "Prodigal's genes in the bin and beside it, recalibrated linearly",
  "prodigal_genes": "Prodigal's genes against annotated protein-coding genes",
}
RIVAL_COLUMNS = {
  RULE: ("prodigal_gap", "pair_gap", "prodigal_density", "prodigal_genes"),
  FITTED: ("codon_ridge", "prodigal_gap_model", "pair_model", "prodigal_density_model"),
  TREES: ("gene_trees", "pair_trees"),
}


@dataclasses.dataclass(frozen=True)
class Rivals:
  """The rivals' metrics on one split.

  Attributes:
    metrics: by rival and by name of the metric.
    skipped: rival -> why it has none.
    chosen: what was chosen on the validation split, by rival.
  """

  metrics: Mapping[str, Mapping[str, Value]]
  skipped: Mapping[str, str]
  chosen: Mapping[str, Mapping[str, float]]

  def column(self, name: str) -> dict[str, Value]:
    """Returns one column of the table, by name of the metric."""
    found = (self.metrics.get(rival, {}) for rival in RIVAL_COLUMNS[name])
    return {metric: value for values in found for metric, value in values.items()}

  def notes(self) -> list[str]:
    """Returns lines that say what stands in the columns, and what is absent."""
    lines = []
    for column, members in RIVAL_COLUMNS.items():
      for rival in members:
        what = f"absent, {self.skipped[rival]}" if rival in self.skipped else DESCRIPTIONS[rival]
        lines.append(f"{column}: {rival}: {what}")
    return lines

  def to_json(self) -> dict[str, Any]:
    """Returns every rival's metrics, description and choices; undefined values are None."""
    found: dict[str, Any] = {}
    for column, members in RIVAL_COLUMNS.items():
      for rival in members:
        found[rival] = {"description": DESCRIPTIONS[rival], "column": column}
        if rival in self.skipped:
          found[rival]["skipped"] = self.skipped[rival]
          continue
        found[rival]["chosen_on_validation"] = dict(self.chosen.get(rival, {}))
        found[rival]["metrics"] = {
          name: {"value": metrics.finite_or_none(v.value), "n": v.n, "over": v.over}
          for name, v in self.metrics[rival].items()
        }
    return found


def require() -> None:
  """Imports Prodigal, so that its absence shows before anything is computed.

  Raises:
    ConfigError: pyrodigal is not installed.
  """
  optional("pyrodigal", EXTRA)


def measure(store: TrackStore, split: str, window_bp: int) -> Rivals:
  """Fits the rivals on a store's training split and measures them on a split.

  Args:
    store: track store with the splits of one fold.
    split: train, validation or test.
    window_bp: length of the model's evaluation windows, from whose starts bins are counted.

  Raises:
    ConfigError: pyrodigal is not installed.
  """
  require()
  data = SplitData(store, window_bp)
  found: dict[str, Mapping[str, Value]] = {}
  skipped: dict[str, str] = {}
  chosen: dict[str, Mapping[str, float]] = {}

  def enter(rivals: Sequence[str], make: Callable[[], Found]) -> None:
    try:
      made = make()
    except AbsentError as absent:
      skipped.update(dict.fromkeys(rivals, str(absent)))
    else:
      found.update(zip(rivals, made.metrics, strict=True))
      chosen[rivals[-1]] = made.chosen

  enter(["codon_ridge"], lambda: codon_ridge(data, split))
  enter(["gene_trees"], lambda: gene_trees(data, split))
  enter(["pair_gap", "pair_model"], lambda: pair_model(data, split))
  enter(["pair_trees"], lambda: pair_trees(data, split))
  try:
    genes = call_genes(store)
  except ValueError as error:
    skipped |= {rival: str(error) for rival in DESCRIPTIONS if rival.startswith("prodigal")}
  else:
    enter(["prodigal_gap", "prodigal_gap_model"], lambda: operons(data, genes, split))
    enter(["prodigal_density", "prodigal_density_model"], lambda: density(data, genes, split))
    accuracy = call_accuracy(genes, store, split)
    found["prodigal_genes"] = {
      f"gene_calls/{name}": Value(*value, "genes") for name, value in accuracy.items()
    }
  return Rivals(found, skipped, chosen)


def over_folds(store: TrackStore, window_bp: int, split: str = TEST) -> dict[str, Any]:
  """Measures the rivals on every fold of a store's chromosome, whichever fold it was built for.

  Returns:
    By rival and metric: `mean` and `std` over folds (NaN where a fold has none), and `folds`, the
    values. Z-scores stay those of the store's fold, which changes no metric of a rival.
  """
  config = store.manifest["config"]
  folds = []
  for fold in range(config["n_folds"]):
    folds.append(measure(divided(store, fold), split, window_bp).metrics)
  summary: dict[str, Any] = {}
  for rival in DESCRIPTIONS:
    for name in folds[0].get(rival, {}):
      values = [f.get(rival, {}).get(name, Value(metrics.NAN, 0, "")).value for f in folds]
      moments = {"mean": float(np.mean(values)), "std": float(np.std(values))}
      summary.setdefault(rival, {})[name] = {**moments, "folds": values}
  return summary
