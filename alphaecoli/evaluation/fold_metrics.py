"""What one fold gave on its held-out split, and metrics over folds, as files and as a table."""

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import special

from alphaecoli.checkpoints.read import LoadedCheckpoint, hash_checkpoint
from alphaecoli.errors import DataError
from alphaecoli.evaluation.metrics import NAN, finite_or_none, mean_defined
from alphaecoli.evaluation.results import BASELINES, Report
from alphaecoli.evaluation.rivals import RIVAL_COLUMNS
from alphaecoli.evaluation.run import gene_table
from alphaecoli.evaluation.split_arrays import Layout
from alphaecoli.files import AnyPath, atomic_write, tsv_writer
from alphaecoli.tracks.store import TrackStore
from alphaecoli.tracks.track_table import trained_heads

FORMAT_VERSION = 1
MODEL, BASELINE = "model", "baseline"
Reports = Mapping[int, Mapping[str, Any]]  # by fold, what `Report.to_json` returns


@dataclasses.dataclass(frozen=True, slots=True)
class FoldMetric:
  """One metric of the model, a baseline or a rival over folds.

  Attributes:
    name: head/metric, as in a report.
    source: model, baseline or the name of a rival.
    column: column of the table: the source, or the column of a rival.
    over: what it was computed from: genes, bases, bins, pairs.
    values: by fold; NaN where it is undefined.
    n: by fold, the number of values it was computed from.
  """

  name: str
  source: str
  column: str
  over: str
  values: Mapping[int, float]
  n: Mapping[int, int]

  @property
  def defined(self) -> list[float]:
    """Returns the values of the folds where it is defined."""
    return [value for value in self.values.values() if np.isfinite(value)]

  @property
  def mean(self) -> float:
    """Returns the mean over the folds where it is defined; NaN where there is none."""
    return mean_defined(self.values.values())

  @property
  def std(self) -> float:
    """Returns the standard deviation over these folds, with n - 1; NaN of fewer than two."""
    return float(np.std(self.defined, ddof=1)) if len(self.defined) > 1 else NAN

  def text(self) -> str:
    """Formats mean and standard deviation, a dash where they are undefined."""
    if not self.defined:
      return "-"
    return f"{self.mean:.4f}" + (f" ± {self.std:.4f}" if len(self.defined) > 1 else "")


@dataclasses.dataclass(frozen=True)
class Aggregate:
  """The metrics of the folds that are done.

  Attributes:
    split: validation or test.
    n_folds: number of folds in all.
    folds: numbers of those that are done.
    metrics: in the order of the table: by name, of the model, the baseline, the rivals.
  """

  split: str
  n_folds: int
  folds: tuple[int, ...]
  metrics: tuple[FoldMetric, ...]

  @property
  def missing(self) -> tuple[int, ...]:
    """Returns the numbers of the folds that are not done."""
    return tuple(fold for fold in range(self.n_folds) if fold not in self.folds)

  def to_json(self) -> dict[str, Any]:
    """Returns all values; None where one is undefined."""
    metrics: dict[str, Any] = {}
    for metric in self.metrics:
      metrics.setdefault(metric.name, {"over": metric.over})[metric.source] = {
        "mean": finite_or_none(metric.mean),
        "std": finite_or_none(metric.std),
        "n_folds": len(metric.defined),
        "folds": {str(fold): finite_or_none(value) for fold, value in metric.values.items()},
        "n": {str(fold): n for fold, n in metric.n.items()},
      }
    return {
      "format": "alphaecoli-crossvalidation",
      "format_version": FORMAT_VERSION,
      "split": self.split,
      "n_folds": self.n_folds,
      "folds": list(self.folds),
      "missing": list(self.missing),
      "baselines": BASELINES,
      "metrics": metrics,
    }

  def write_tsv(self, path: AnyPath) -> None:
    """Writes one line a metric and source.

    Raises:
      DataError: the file can not be written.
    """
    every = range(self.n_folds)
    columns = ["metric", "source", "over", "mean", "std", "n_folds", *(f"fold_{k}" for k in every)]
    with tsv_writer(path, columns) as add:
      for m in self.metrics:
        moments = (m.mean, m.std, len(m.defined))
        add([m.name, m.source, m.over, *moments, *(m.values.get(fold) for fold in every)])

  def table(self) -> str:
    """Formats means and standard deviations as text of fixed width; says what is missing."""
    shown = {m.column for m in self.metrics}
    columns = [MODEL, BASELINE, *(c for c in RIVAL_COLUMNS if c in shown)]
    rows: dict[str, dict[str, FoldMetric]] = {}
    for metric in self.metrics:
      rows.setdefault(metric.name, {})[metric.column] = metric
    width = max([len(name) for name in rows] + [len("metric")])
    lines = [
      f"{self.split} split, {len(self.folds)} of {self.n_folds} folds, mean ± standard deviation",
      f"{'metric':<{width}}" + "".join(f"  {c:>17}" for c in columns) + "  folds",
    ]
    for name, row in rows.items():
      cells = "".join(f"  {row[c].text() if c in row else '-':>17}" for c in columns)
      most = max(len(metric.defined) for metric in row.values())
      lines.append(f"{name:<{width}}{cells}  {most:>5} {next(iter(row.values())).over}")
    if self.missing:
      lines.append(f"folds that are missing: {', '.join(map(str, self.missing))}")
    return "\n".join(lines)


def aggregate(reports: Reports, split: str, n_folds: int) -> Aggregate:
  """Aggregates the reports of folds.

  Args:
    reports: reports of the folds that are done, by fold.
    split: validation or test.
    n_folds: number of folds in all.
  """
  found: dict[str, dict[str, dict[int, Mapping[str, Any]]]] = {}  # name, source, fold
  columns = {MODEL: MODEL, BASELINE: BASELINE}
  for fold, report in reports.items():
    for name, value in report["metrics"].items():
      for source in (MODEL, BASELINE):
        entry = {"value": value[source], "n": value["n"], "over": value["over"]}
        found.setdefault(name, {}).setdefault(source, {})[fold] = entry
    for rival, result in report.get("rivals", {}).items():
      columns[rival] = result["column"]
      for name, value in result.get("metrics", {}).items():
        found.setdefault(name, {}).setdefault(rival, {})[fold] = value
  metrics = tuple(
    FoldMetric(
      name,
      source,
      columns[source],
      next(iter(entries.values()))["over"],
      {fold: _nan(entry["value"]) for fold, entry in entries.items()},
      {fold: entry["n"] for fold, entry in entries.items()},
    )
    for name, sources in found.items()
    for source, entries in sources.items()
  )
  return Aggregate(split, n_folds, tuple(reports), metrics)


def _nan(value: float | None) -> float:
  """Returns NaN in place of None."""
  return NAN if value is None else float(value)


_BASES, _GENES, _PAIRS = "bases.", "genes.", "pairs."  # prefixes of arrays in the file


@dataclasses.dataclass(frozen=True)
class FoldResult:
  """What one fold's model gave on its held-out split.

  Attributes:
    metadata: JSON object: fold, step, checkpoint (name of its folder) and checkpoint_sha256,
      contig, tracks, the run's config, and the evaluation's report.
    layout: place of the split's regions in `bases`.
    bases: by head, over split positions: log TPM (n, T), genes per bin at the first base of bins
      (n,), probability (n,); NaN where nothing was predicted.
    genes: columns over the genes that lie fully in the split, observed beside predicted.
    pairs: the same over neighbouring genes on one strand.
  """

  metadata: Mapping[str, Any]
  layout: Layout
  bases: Mapping[str, np.ndarray]
  genes: Mapping[str, np.ndarray]
  pairs: Mapping[str, np.ndarray]

  @classmethod
  def of(cls, loaded: LoadedCheckpoint, store: TrackStore, report: Report) -> "FoldResult":
    """Collects what an evaluation found, in the units of users."""
    found, table = report.predictions, store.table
    metadata = {
      "fold": store.manifest["config"]["fold"],
      "step": loaded.step,
      "checkpoint": loaded.path.name,
      "checkpoint_sha256": hash_checkpoint(loaded.path),
      "contig": store.contig,
      "contigs": [own.contig for own in store.replicons],
      "tracks": list(table.names),
      "config": loaded.config.to_dict(),
      "report": report.to_json(),
    }
    bases = {
      "gene_expression": table.to_log_tpm(found.bases["gene_expression"]),
      "gene_density": found.bases["gene_density"][:, 0],
      "operon_membership": special.expit(found.bases["operon_membership"][:, 0]),
    }
    trained = trained_heads(loaded.config.loss.weights, loaded.table)
    for head in bases.keys() - set(trained):
      bases[head] = np.full_like(bases[head], np.nan)
    genes = gene_table(found.genes, table)
    return cls(metadata, found.layout, bases, genes, pair_table(found.genes, found.pairs))

  def write(self, path: AnyPath) -> None:
    """Writes the file of a fold.

    Raises:
      DataError: it can not be written.
    """
    arrays = {
      "metadata": np.array(json.dumps(self.metadata)),
      "regions": np.array(self.layout.regions, np.int64).reshape(-1, 2),
      "length_bp": np.int64(self.layout.length_bp),
    }
    if self.layout.contigs:
      arrays["contig_bp"] = np.array([part.length_bp for part in self.layout.parts])
      arrays["contig_regions"] = np.array([len(part.regions) for part in self.layout.parts])
    for prefix, part in ((_BASES, self.bases), (_GENES, self.genes), (_PAIRS, self.pairs)):
      arrays |= {prefix + name: values for name, values in part.items()}
    write_npz(path, arrays)

  @classmethod
  def read(cls, path: AnyPath) -> "FoldResult":
    """Reads the file of a fold.

    Raises:
      DataError: it is broken.
    """
    try:
      with path.open("rb") as opened, np.load(opened) as file:
        arrays = dict(file)
      regions = tuple((int(start), int(end)) for start, end in arrays["regions"])
      lengths = arrays.get("contig_bp", [arrays["length_bp"]])
      ends = np.cumsum(arrays.get("contig_regions", [len(regions)]))
      starts = [0, *ends[:-1]]
      layout = Layout.joined(
        [Layout(regions[a:b], int(n)) for a, b, n in zip(starts, ends, lengths, strict=True)]
      )
      metadata = json.loads(str(arrays["metadata"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
      raise DataError(f"{path}: can not be read ({error}); delete it and run again") from error
    bases, genes, pairs = (
      {name.removeprefix(p): values for name, values in arrays.items() if name.startswith(p)}
      for p in (_BASES, _GENES, _PAIRS)
    )
    return cls(metadata, layout, bases, genes, pairs)


def pair_table(
  genes: Mapping[str, np.ndarray], pairs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Returns the columns of a table of pairs: genes, distance, observed and predicted operon."""
  columns = {"contig": genes["contig"][pairs["left"]]} if "contig" in genes else {}
  columns |= {
    f"{side}_{short}": genes[key][pairs[side]]
    for side in ("left", "right")
    for short, key in (("id", "gene_id"), ("locus_tag", "locus_tag"), ("name", "name"))
  }
  columns |= {"strand": genes["strand"][pairs["left"]], "start": genes["start"][pairs["left"]]}
  columns |= {"distance_bp": pairs["distance_bp"]}
  columns |= {"observed_same_operon": pairs["same_operon"].astype(np.int64)}
  # What is left are scores.
  done = {"left", "right", "low", "high", "distance_bp", "same_operon", "experimental"}
  return columns | {key: values for key, values in pairs.items() if key not in done}


def write_npz(path: AnyPath, arrays: Mapping[str, Any]) -> None:
  """Writes compressed arrays to a file that is either whole or absent.

  Raises:
    DataError: the file can not be written.
  """
  with atomic_write(path) as file:
    np.savez_compressed(file.buffer, **arrays)
