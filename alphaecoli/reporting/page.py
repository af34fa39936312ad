"""One HTML file about a run: text and tables as HTML, what is drawn as JSON for scripts."""

import datetime
import importlib.resources
import json
import string
from collections.abc import Mapping, Sequence
from typing import Any

from alphaecoli import __version__
from alphaecoli.plotting.observed import organism
from alphaecoli.reporting import sections
from alphaecoli.reporting.chromosome import COARSE_BP, detail_step
from alphaecoli.reporting.run import Run
from alphaecoli.schema import HEADS

SCRIPTS = ("base.js", "charts.js", "layers.js", "paint.js", "browser.js", "circle.js", "main.js")
STYLE = "report.css"
TEMPLATE = "template.html"
_PREDICTED = "predicted_log_tpm:"


def render(run: Run, view: Mapping[str, Any], predictions: str, methods: str) -> str:
  """Renders the page.

  Args:
    run: content of the work directory.
    view: object that `genome_view` returns.
    predictions: origin of the predictions, in words.
    methods: methods paragraph.

  Returns:
    HTML that needs no other file and no network.
  """
  title = organism(run.store.manifest["contig"])
  now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
  data = {
    "split": run.split,
    "view": view,
    "curves": _curves(run),
    "calibration": _calibration(run),
    "scatter": _scatter(run),
    "missing": sections.missing_evaluation(run) if run.evaluation is None else "",
    "predictions": predictions,
    "reasons": _reasons(run, view),
  }
  values = {
    "title": sections.escape(title),
    "subtitle": sections.escape(
      f"Report of the run {run.workdir.resolve().name}: {sections.state(run)}. Figures of the "
      f"{run.split} split. Written by alphaecoli {__version__}, {now}."
    ),
    "headlines": sections.headlines(run),
    "held_out": sections.held_out(run),
    "step_note": _step_note(run),
    "predictions": sections.escape(predictions),
    "methods": sections.escape(methods),
    "quality": sections.quality(run.store.quality),
    "configuration": sections.configuration(run),
    "metadata": sections.metadata(run),
    "resolution": resolution(view["detail"], run.split),
    "style": _read(STYLE),
    "script": "\n".join(_read(name) for name in SCRIPTS),
    "data": embed(data),
  }
  return string.Template(_read(TEMPLATE)).substitute(values)


def resolution(detail: Sequence[tuple[int, int]], split: str) -> str:
  """Says how finely the page holds predictions."""
  step = detail_step(detail)
  if step >= COARSE_BP:
    return f"as means over {COARSE_BP} bp"
  fine = "base by base" if step == 1 else f"as means over {step} bp"
  return f"{fine} in the {split} split and the chosen loci, as means over {COARSE_BP} bp elsewhere"


def embed(value: Any) -> str:
  """Encodes JSON that may stand in a script element whatever its strings hold."""
  text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII only
  return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read(name: str) -> str:
  """Reads a file of assets/."""
  return importlib.resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _step_note(run: Run) -> str:
  """Says so where metrics and predictions are not of one checkpoint."""
  if run.evaluation is None or run.best is None:
    return ""
  step = run.evaluation.value["step"]
  if step == run.best.step:
    return ""
  return sections.note(
    f"The figures are of step {step:,}, the genome views of step {run.best.step:,}, which is best "
    "on validation now. Evaluate again to bring them together: "
    f"python -m alphaecoli.evaluate --workdir {run.workdir} --split {run.split}"
  )


def _curves(run: Run) -> dict[str, Any]:
  """Collects losses over steps: training means since the record before, and validation."""
  words = {h.name: (h.title, h.loss_words) for h in HEADS.values()}
  words["total"] = "total loss", "weighted sum"
  series: dict[str, Any] = {"best": run.best.step if run.best else None, "panels": []}
  for name, (title, units) in words.items():
    panel: dict[str, Any] = {"name": title, "units": units}
    for kind, key in (("train", f"mean_loss/{name}"), ("validation", f"loss/{name}")):
      rows = [r for r in run.history if r["kind"] == kind and r.get(key) is not None]
      panel[kind] = [[r["step"], r[key]] for r in rows]
    if panel["train"] or panel["validation"]:
      series["panels"].append(panel)
  return series


def _calibration(run: Run) -> dict[str, Any] | None:
  """Collects the reliability curve of the operon head and its metrics, if there is one."""
  if run.evaluation is None or not run.evaluation.value.get("calibration"):
    return None
  metrics = run.evaluation.value["metrics"]
  return {
    **run.evaluation.value["calibration"],
    "error": metrics["operon_membership/calibration_error"]["model"],
    "brier": metrics["operon_membership/brier"]["model"],
  }


def _scatter(run: Run) -> list[dict[str, Any]]:
  """Collects observed and predicted expression by gene, one entry a track."""
  if run.evaluation is None or not run.evaluation.genes:
    return []
  genes, metrics = run.evaluation.genes, run.evaluation.value["metrics"]
  tracks = [c.removeprefix(_PREDICTED) for c in genes[0] if c.startswith(_PREDICTED)]
  found = []
  for track in tracks:
    observed, predicted = f"observed_log_tpm:{track}", _PREDICTED + track
    points = [g for g in genes if g[observed] and g[predicted]]
    suffix = "" if len(tracks) == 1 else f"/{track}"
    of_track = {
      key: metrics.get(f"gene_expression/genes_{key}{suffix}", {}).get("model")
      for key in ("r2", "pearson", "spearman")
    }
    if points:
      found.append(
        {
          "track": track,
          **of_track,
          "name": [g["name"] for g in points],
          "tag": [g["locus_tag"] for g in points],
          "observed": [float(g[observed]) for g in points],
          "predicted": [float(g[predicted]) for g in points],
        }
      )
  return found


def _reasons(run: Run, view: Mapping[str, Any]) -> dict[str, str]:
  """Says why a drawing is empty, by its name."""
  weights = run.config["loss"]["weights"]
  reasons = {}
  for head in HEADS:
    label = HEADS[head].title
    if not run.store.table.has_targets(head):
      reasons[head] = f"{label}: the track store has no such data, the head was not trained"
    elif weights[head] == 0:
      reasons[head] = f"{label}: not trained, its loss weight is 0"
    elif not view["predicted"]:
      reasons[head] = f"{label}: no prediction yet, the run has no checkpoint"
  evaluation = run.evaluation
  if evaluation is None:
    reasons["scatter"] = reasons["calibration"] = sections.missing_evaluation(run)
  else:
    again = f"python -m alphaecoli.evaluate --workdir {run.workdir} --split {run.split}"
    skipped = evaluation.value["skipped"]
    for name, head in (("scatter", "gene_expression"), ("calibration", "operon_membership")):
      reasons[name] = (
        f"{HEADS[head].title} has no figures: {skipped[head]}"
        if head in skipped
        else f"{evaluation.file.name} does not come with it. This makes it: {again}"
      )
  reasons["curves"] = "The run has not logged a step yet."
  return reasons
