"""The figures of one accelerator: errors against a CPU's, and all of them as tables in Markdown."""

import math
from collections.abc import Mapping
from typing import Any

from alphaecoli.benchmarks.step import speed_tables
from alphaecoli.tracks.splits import TEST


def relative_error(got: Any, want: Any) -> float:
  """Returns the relative root mean square difference over all arrays of two trees together."""
  import jax
  import numpy as np

  pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
  wide = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
  difference = sum(float(np.square(a - b).sum()) for a, b in wide)
  return math.sqrt(difference / sum(float(np.square(b).sum()) for _, b in wide))


def within(errors: Mapping[str, float], tolerance: float) -> bool:
  """Returns whether all errors are below a tolerance, which NaN is not."""
  return all(error < tolerance for error in errors.values())


def markdown(report: Mapping[str, Any]) -> str:
  """Formats a report as tables."""
  stages = {name: stage["parts"] for name, stage in report["stages"].items()}
  results = {
    stage: {name: part["result"] for name, part in parts.items() if "result" in part}
    for stage, parts in stages.items()
  }
  device = results.get("device", {}).get("device", {})
  jax = f"jax {device.get('versions', {}).get('jax', '?')}"
  words = [device.get("device", "no device"), report["started"], jax]
  words += ["**a rehearsal: no figure here means anything**"] if report["rehearsal"] else []
  lines = [", ".join(words), "", *_device_lines(device), *_stage_lines(report), ""]
  for name, check in {**results.get("checks", {}), **results.get("trunk", {})}.items():
    verdict = "as they must be" if check["good"] else "**NOT as they must be**"
    lines.append(f"- {name}: {verdict}; largest errors {_largest(check['errors'])}")
  if best := results.get("step", {}).get(report.get("best")):
    flags = " ".join(f"--config.{key}={value}" for key, value in best["changes"].items())
    lines.append(f"- step: best is {report['best']} ({flags})")
  lines += speed_tables(results.get("step", {}), results.get("predict", {}), device)
  lines += _training_table(results.get("train", {}), report["recipe"])
  failed = [f"- {s}, {n}: {p['error']}" for s, parts in stages.items() for n, p in parts.items()
            if "error" in p]  # fmt: skip
  return "\n".join([*lines, *(["", "What is missing:", "", *failed] if failed else []), ""])


def _device_lines(device: Mapping[str, Any]) -> list[str]:
  """Formats what was measured of the device beside its peak."""
  if "measured_bytes_per_s" not in device:
    return []
  peak, memory = device.get("peak_bf16_flops_per_s"), device["memory_bytes"].get("limit")
  words = [
    f"bfloat16 matrix product {device['measured_bf16_flops_per_s'] / 1e12:,.1f} TFLOP/s"
    + (f" of {peak / 1e12:,.0f}" if peak else ""),
    f"copy {device['measured_bytes_per_s'] / 1e9:,.0f} GB/s",
    *([f"memory for programs {memory / 2**30:.1f} GiB"] if memory else []),
  ]
  return [f"- device: {', '.join(words)}"]


def _stage_lines(report: Mapping[str, Any]) -> list[str]:
  """Formats how long the stages took, which tells how to divide the minutes of the next run."""
  times = [
    f"{name} {stage['seconds']:.0f} of {stage['limit_s']:.0f} s"
    for name, stage in report["stages"].items()
    if "seconds" in stage
  ]
  return [f"- stages: {', '.join(times)}"] if times else []


def _largest(errors: Mapping[str, Any]) -> str:
  """Formats the errors of a check: the largest, of each of its groups where it has some."""
  if not any(isinstance(value, Mapping) for value in errors.values()):
    values = [math.nan if e is None else e for e in errors.values()]  # JSON has no NaN
    return f"{math.nan if any(map(math.isnan, values)) else max(values):.1e}"
  return ", ".join(
    f"{name} {group['error'] if 'error' in group else _largest(group)}"
    for name, group in errors.items()
  )


def _training_table(folds: Mapping[str, Any], recipe: str) -> list[str]:
  """Formats the metrics of the folds that are done."""
  if not folds:
    return []
  from alphaecoli.evaluation.fold_metrics import aggregate  # it imports JAX

  reports = {int(name.removeprefix("fold_")): fold for name, fold in folds.items()}
  n_folds = next(iter(folds.values()))["config"]["data"]["n_folds"]
  runs = [
    f"{fold['run']['step']} steps in {fold['run']['seconds']:.0f} s" for fold in folds.values()
  ]
  return [
    "",
    f"{recipe}: {', '.join(runs)}",
    "",
    "```",
    aggregate(reports, TEST, n_folds).table(),
    "```",
  ]
