"""The parts of the page that are text and tables: HTML about a run. All text is escaped."""

import datetime
import html
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alphaecoli.config import base_config, meanings, resolve
from alphaecoli.reporting.run import Run
from alphaecoli.schema import HEADS
from alphaecoli.tracks.splits import SPLITS
from alphaecoli.training.metrics_log import duration

Cell = str | tuple[str, str]  # text, or text and class


def escape(value: object) -> str:
  """Escapes text that may stand anywhere in HTML."""
  return html.escape(str(value), quote=True)


def table(head: Sequence[Cell], rows: Iterable[Sequence[Cell]], caption: str) -> str:
  """Formats an HTML table, without an empty head; the class num puts numbers flush right."""

  def cells(tag: str, row: Sequence[Cell]) -> str:
    pairs = [(c, "") if isinstance(c, str) else c for c in row]
    return "".join(
      f"<{tag}{f' class={escape(name)}' if name else ''}>{escape(text)}</{tag}>"
      for text, name in pairs
    )

  body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
  top = f"<thead><tr>{cells('th', head)}</tr></thead>" if head else ""
  return (
    f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
    f"<table><caption>{escape(caption)}</caption>{top}<tbody>\n{body}\n</tbody></table></div>"
  )


def note(text: str) -> str:
  """Formats a paragraph that says why something is not there, or how to get it."""
  return f'<p class="note">{escape(text)}</p>'


def number(value: float | None) -> str:
  """Formats four decimals; a dash where undefined."""
  return decimals(value, 4)


def decimals(value: float | None, digits: int) -> str:
  """Formats a number with a proper minus, never a negative zero; a dash where undefined."""
  return "–" if value is None else f"{value:z.{digits}f}".replace("-", "−")


def missing_evaluation(run: Run) -> str:
  """Says what to do where a split was not measured."""
  return (
    f"The {run.split} split has not been measured. This does it: "
    f"python -m alphaecoli.evaluate --workdir {run.workdir} --split {run.split}"
  )


def headlines(run: Run) -> str:
  """Formats the metrics at the top, beside their baselines."""
  if run.evaluation is None:
    return note(missing_evaluation(run))
  metrics, baselines = run.evaluation.value["metrics"], run.evaluation.value["baselines"]
  tiles = []
  for name in HEADLINES:
    if name not in metrics:
      continue
    metric = metrics[name]
    model, baseline = metric["model"], metric["baseline"]
    what = baseline_words(name, baselines)
    below = model is not None and baseline is not None and model < baseline
    tiles.append(
      f'<div class="tile"><div class="what">{escape(metric_words(name))}</div>'
      f'<div class="value">{decimals(model, 2)}</div>'
      f'<div class="base">{"below its" if below else ""} baseline '
      f"{decimals(baseline, 2)}: {escape(what)}; "
      f"n = {metric['n']:,} {escape(metric['over'])}</div></div>"
    )
  return f'<div class="tiles">{"".join(tiles)}</div>'


def held_out(run: Run) -> str:
  """Tabulates every metric of the split beside its baseline."""
  if run.evaluation is None:
    return note(missing_evaluation(run))
  value = run.evaluation.value
  rows: list[list[Cell]] = []
  for name, metric in value["metrics"].items():
    model, baseline = metric["model"], metric["baseline"]
    better = None
    if model is not None and baseline is not None:
      better = model < baseline if lower_is_better(name) else model > baseline
    rows.append(
      [
        metric_words(name),
        (number(model), "num" if better is not False else "num worse"),
        (number(baseline), "num"),
        baseline_words(name, value["baselines"]),
        (f"{metric['n']:,}", "num"),
        metric["over"],
        (name, "code"),
      ]
    )
  head: list[Cell] = [
    "figure", ("model", "num"), ("baseline", "num"), "what the baseline is", ("n", "num"), "over",
    "name",
  ]  # fmt: skip
  origin = f"{value['split']} split, {value['n_bases']:,} bases, step {value['step']:,}"
  skipped = "".join(
    note(f"{_title(head)}: no figures, {why}.") for head, why in value["skipped"].items()
  )
  return table(head, rows, f"Held-out figures: {origin} ({run.evaluation.file.name})") + skipped


def quality(report: Mapping[str, Any]) -> str:
  """Tabulates what was read, and what was skipped or repaired, by reason."""
  totals = [[name, (f"{n:,}", "num")] for name, n in report["totals"].items()]
  problems = sorted(report["problems"].items(), key=lambda item: -item[1]["count"])
  rows = [
    [
      reason,
      (f"{entry['count']:,}", "num"),
      ", ".join([*entry["datasets"], *entry["examples"]][:5])
      + (", …" if len({*entry["datasets"], *entry["examples"]}) > 5 else ""),
    ]
    for reason, entry in problems
  ]
  read = table([], totals, "Records read")
  if not rows:
    return read + note("No record was skipped or repaired.")
  head: list[Cell] = ["reason", ("records", "num"), "such as"]
  return read + table(head, rows, "Skipped or repaired, by reason")


def configuration(run: Run) -> str:
  """Tabulates keys that differ from configs/base.py, then all others."""
  values, defaults = _flat(run.config), _flat(resolve(base_config()).to_dict())
  comments = meanings()
  changed, same = [], []
  for key, value in values.items():
    default = defaults.get(key, "–")
    row: list[Cell] = [(key, "code"), (_plain(value), "code")]
    if _plain(value) != _plain(default):
      changed.append([*row, (_plain(default), "code"), comments.get(key, "")])
    else:
      same.append([*row, comments.get(key, "")])
  head: list[Cell] = ["key", "value", "configs/base.py", "meaning"]
  first = (
    table(head, changed, "Changed keys")
    if changed
    else note("Every value is that of configs/base.py.")
  )
  rest = table(["key", "value", "meaning"], same, "As in configs/base.py")
  return (
    f"{first}<details><summary>{len(same)} keys as in configs/base.py</summary>{rest}</details>"
  )


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
  """Flattens to dotted keys; an empty section stays a value."""
  flat: dict[str, Any] = {}
  for key, value in values.items():
    if isinstance(value, Mapping | ConfigDict) and value and path + key != "data.expression_groups":
      flat |= _flat(value, f"{path}{key}.")
    else:
      flat[path + key] = value
  return flat


def _plain(value: Any) -> str:
  """Formats a value as text; lists and tuples alike."""
  return ", ".join(map(str, value)) or "()" if isinstance(value, list | tuple) else str(value)


def state(run: Run) -> str:
  """Says how far the run is, in a few words."""
  end = run.starts[-1].get("end")
  if end is None:
    return f"at step {run.step:,} of {run.steps:,}, running or killed"
  if end["status"]:
    return f"stopped after step {run.step:,} of {run.steps:,}"
  return f"finished, {run.steps:,} steps"


def metadata(run: Run) -> str:
  """Tabulates the run, its checkpoints, its data."""
  start, history = run.starts[-1], run.history
  times = [r["time"] for r in history if r.get("time")]
  speeds = [r["bases_per_s"] for r in history if r.get("bases_per_s")]
  changes = ", with local changes" if start["git_changes"] else ""
  entries: dict[str, str] = {
    "state": state(run),
    "last record": _when(times[-1]) if times else "none yet",
    "speed, median": f"{statistics.median(speeds):,.0f} bases/s" if speeds else "–",
    "command": " ".join(start["command"]),
    "code": start["git_commit"] + changes if start["git_commit"] else "not a git checkout",
    "devices": f"{start['devices']}; processes: {start['processes']}",
    "mesh": ", ".join(f"{k} {v}" for k, v in start["mesh"].items()),
    "software": ", ".join(f"{k} {v}" for k, v in start["versions"].items()),
    "checkpoints": "; ".join(
      f"step {s.step:,}" + ("" if s.score is None else f" (validation loss {s.score:.4f})")
      for s in run.saved
    )
    or "none yet",
    "best on validation": f"step {run.best.step:,}" if run.best else "–",
  }
  return table([], list(entries.items()), "Run") + _starts(run) + _data_entries(run)


def _starts(run: Run) -> str:
  """Tabulates each time the run began or went on, and how that ended."""
  rows: list[list[Cell]] = []
  for start in run.starts:
    end = start.get("end")
    how = "no record: running, or killed"
    if end is not None:
      how = f"stopped, exit status {end['status']}" if end["status"] else "finished"
    rows.append(
      [
        _when(datetime.datetime.fromisoformat(start["time"]).timestamp()),
        (f"{start['step']:,}", "num"),
        (f"{end['step']:,}" if end else "–", "num"),
        (duration(end["seconds"]) if end else "–", "num"),
        how,
      ]
    )
  head: list[Cell] = ["began", ("after step", "num"), ("to step", "num"), ("took", "num"), "end"]
  return table(head, rows, "Starts of the run")


def _data_entries(run: Run) -> str:
  """Tabulates where the data come from."""
  manifest, store = run.store.manifest, run.store
  shape = "circular" if store.circular else "linear"
  entries = {
    "chromosome": f"{store.contig}, {store.length_bp:,} bp, {shape}",
    "genome": ", ".join(f"{o.contig} {o.length_bp:,} bp" for o in run.genome.replicons),
    "genome from": str(manifest["genome_source"]),
    "expression tracks": "; ".join(
      f"{t.name}: mean of {len(t.datasets)} data sets, training mean {t.mean:.3f}, "
      f"standard deviation {t.std:.3f} ln(1 + TPM)"
      for t in store.table.expression
    )
    if store.table.has_expression
    else "none: no expression data",
    "genes per 128 bp, training mean": f"{store.table.density_mean:.3f}",
    "share of training bases in operons": f"{store.table.operon_prevalence:.3f}"
    if store.table.has_operons
    else "none: no operons",
    **{f"{name} split": _split(run, name) for name in SPLITS},
    "track store": store.fingerprint,
  }
  inputs = [
    [name, entry["name"], (f"{entry['bytes']:,}", "num"), (entry["sha256"], "code")]
    for name, entry in manifest["inputs"].items()
  ]
  head: list[Cell] = ["input", "file", ("bytes", "num"), "SHA-256"]
  return table([], list(entries.items()), "Data") + table(head, inputs, "Input files")


def _split(run: Run, name: str) -> str:
  """Describes length, genes and regions of a split."""
  store = run.store
  regions = store.regions(name)
  bases, genes = sum(end - start for start, end in regions), int((store.genes.split == name).sum())
  where = ", ".join(f"{a + 1:,}–{b:,}" for a, b in regions)
  return f"{bases:,} bases, {genes:,} genes in {len(regions)} regions: {where}"


def _when(seconds: float) -> str:
  """Formats a moment, in UTC."""
  return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


METRIC_WORDS = {
  "gene_expression/genes_r2": "expression of a gene, R²",
  "gene_expression/genes_pearson": "expression of a gene, Pearson’s r",
  "gene_expression/genes_spearman": "expression of a gene, Spearman’s ρ",
  "gene_expression/coding_genes_r2": "expression of a protein-coding gene, R²",
  "gene_expression/coding_genes_pearson": "expression of a protein-coding gene, Pearson’s r",
  "gene_expression/coding_genes_spearman": "expression of a protein-coding gene, Spearman’s ρ",
  "gene_expression/bases_r2": "expression of a base, R²",
  "gene_density/r2": "genes per 128 bp, R²",
  "gene_density/pearson": "genes per 128 bp, Pearson’s r",
  "gene_density/mse": "genes per 128 bp, mean squared error (genes²) ↓",
  "operon_membership/auroc": "base in an operon, AUROC",
  "operon_membership/auprc": "base in an operon, AUPRC",
  "operon_membership/accuracy": "base in an operon, accuracy at p ≥ 0.5",
  "operon_membership/f1": "base in an operon, F1 at p ≥ 0.5",
  "operon_membership/brier": "base in an operon, Brier score ↓",
  "operon_membership/calibration_error": "base in an operon, calibration error ↓",
  "operon_membership/pairs_auroc": "neighbouring genes share an operon, AUROC",
  "operon_membership/experimental_pairs_auroc": "the same, operons known by experiment, AUROC",
  "gene_structure/codon_auroc": "codon position of a base, AUROC",
  "gene_structure/rna_auroc": "base in an RNA gene, AUROC",
  "gene_calls/stop_sensitivity": "genes called, stop codon exact, sensitivity",
  "gene_calls/stop_precision": "genes called, stop codon exact, precision",
  "gene_calls/exact_sensitivity": "genes called, both ends exact, sensitivity",
  "gene_calls/exact_precision": "genes called, both ends exact, precision",
  "operon_junction/pairs_auroc": "neighbouring genes share an operon, by junction, AUROC",
  "operon_junction/experimental_pairs_auroc": "the same, known by experiment, by junction, AUROC",
  "operon_junction/bases_auroc": "base in an operon, by junctions of called genes, AUROC",
  "operon_pairs/annotated_auroc": "neighbouring genes share an operon, with annotation, AUROC",
  "loss/gene_expression": "loss of expression (z²) ↓",
  "loss/gene_density": "loss of density (genes²) ↓",
  "loss/operon_membership": "loss of operon membership (nats) ↓",
  "loss/gene_structure": "loss of gene structure (nats) ↓",
  "loss/operon_junction": "loss of operon junctions (nats) ↓",
  "loss/total": "loss, weighted sum ↓",
}
# The one metric of each kind that stands at the top.
HEADLINES = (
  "gene_expression/genes_r2",
  "gene_density/r2",
  "operon_membership/auroc",
  "operon_membership/pairs_auroc",
)


def lower_is_better(name: str) -> bool:
  """Tells whether a metric is an error."""
  return name.startswith("loss/") or name.endswith(("/mse", "/brier", "/calibration_error"))


def metric_words(name: str) -> str:
  """Names a metric in words; of one of several tracks with the track's name."""
  if name in METRIC_WORDS:
    return METRIC_WORDS[name]
  head, metric, *track = name.split("/", 2)
  words = METRIC_WORDS.get(f"{head}/{metric}", name)
  return f"{words}, track {track[0]}" if track else words


def baseline_words(name: str, baselines: Mapping[str, str]) -> str:
  """Describes a metric's baseline; the losses have those of their heads."""
  head = name.removeprefix("loss/").split("/")[0]
  return baselines.get(name) or baselines.get(head, "")


def _title(head: str) -> str:
  """Returns a head in words; one of another version by its name."""
  return HEADS[head].title if head in HEADS else head
