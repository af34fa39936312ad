"""Watches the metrics of the steps: stops a run that has gone wrong, warns of one that will."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from alphaecoli.errors import UserError

LOGGER = logging.getLogger(__name__)
CONSTANT_STD = 1e-6  # an output whose standard deviation over a batch is below this is constant
_MOST_WINDOWS = 8  # named in a message


class Watch:
  """Holds the metrics of the steps since the last log line, on the devices until needed."""

  def __init__(
    self, saved: Mapping[str, Any] | None = None, ended: Callable[[int], None] | None = None
  ) -> None:
    """Starts empty, or from a saved state.

    Args:
      saved: state to go on from, as `to_json` returns it.
      ended: receiver of the number of each step, when it is seen to be done.
    """
    saved = saved or {"checked": [], "known": {}}
    self._pending: list[tuple[int, Mapping[str, Array]]] = []
    self._checked: list[dict[str, float]] = list(saved["checked"])
    self._known: dict[str, float] = dict(saved["known"])
    self._warned: set[str] = set()
    self._ended = ended
    self._waited = 0  # of the pending steps, how many are seen to be done

  def add(self, step: int, metrics: Mapping[str, Array]) -> None:
    """Keeps the metrics of a step; waits until the step two before is done.

    Without the wait a fast host would queue steps, and their batches, without bound.
    """
    self._pending.append((step, metrics))
    self._wait(len(self._pending) - 2)

  def _wait(self, count: int) -> None:
    """Waits until the first so many of the pending steps are done."""
    for step, metrics in self._pending[self._waited : max(count, 0)]:
      jax.block_until_ready(metrics)
      self._waited += 1
      if self._ended is not None:
        self._ended(step)

  def check(self, last_good: str) -> None:
    """Fetches what is pending.

    Args:
      last_good: place of the last good checkpoint, for the message.

    Raises:
      UserError: a loss or the gradient is not finite; says which head, step and windows.
    """
    self._wait(len(self._pending))
    pending, self._pending, self._waited = self._pending, [], 0
    for (step, _), values in zip(pending, jax.device_get([m for _, m in pending]), strict=True):
      scalars = {name: float(v) for name, v in values.items() if np.ndim(v) == 0}
      bad = [n for n, v in scalars.items() if _must_be_finite(n) and not math.isfinite(v)]
      if bad:
        raise UserError(_not_finite(step, bad, scalars, values) + last_good)
      self._checked.append(scalars)

  def to_json(self) -> dict[str, Any]:
    """Returns what a run that continues here needs for the same summaries. Call `check` first."""
    return {"checked": list(self._checked), "known": dict(self._known)}

  def summary(self) -> dict[str, float]:
    """Returns the last step's metrics, and mean losses since the last summary; after `check`."""
    steps, self._checked = self._checked, []
    names = [name for name in steps[-1] if name.startswith("loss/")]
    means = {f"mean_{name}": float(np.mean([s[name] for s in steps])) for name in names}
    for name in steps[-1]:
      if name.startswith("known/"):
        self._known[name] = self._known.get(name, 0.0) + sum(s[name] for s in steps)
    self._warn(steps[-1])
    return {**steps[-1], **means}

  def _warn(self, scalars: Mapping[str, float]) -> None:
    """Warns once of what will make the run useless."""
    for name, value in scalars.items():
      kind, _, head = name.partition("/")
      if kind == "known" and self._known[name] == 0:
        self._once(name, f"{head}: no window so far has a known target; this head learns nothing")
      elif kind == "output_std" and value < CONSTANT_STD:
        self._once(
          name, f"{head}: the head's output is constant; its loss can not fall (dead or collapsed)"
        )
    if not scalars.get("stats_finite", 1):
      self._once("stats", "running statistics are not finite; predictions will not be either")

  def _once(self, key: str, message: str) -> None:
    """Warns of one thing the first time it comes up."""
    if key not in self._warned:
      self._warned.add(key)
      LOGGER.warning(message)


def _must_be_finite(name: str) -> bool:
  """Returns whether a run can not go on with this metric NaN or infinite."""
  return name.startswith("loss/") or name == "grad_norm"


def _not_finite(
  step: int, bad: Sequence[str], scalars: Mapping[str, float], values: Mapping[str, Any]
) -> str:
  """Says what went wrong, and where."""
  heads = [n.removeprefix("loss/") for n in bad if n.startswith("loss/") and n != "loss/total"]
  what = (
    " and ".join(f"loss of {head} is {scalars[f'loss/{head}']}" for head in heads)
    or f"{bad[0]} is {scalars[bad[0]]}"
  )
  strands = np.where(values["reverse"], "-", "+")
  windows = [f"{start}{strand}" for start, strand in zip(values["start"], strands, strict=True)]
  more = f" and {len(windows) - _MOST_WINDOWS} more" if len(windows) > _MOST_WINDOWS else ""
  return (
    f"{what} at step {step}; windows (start, strand) {', '.join(windows[:_MOST_WINDOWS])}{more}; "
    "a lower optimizer.learning_rate, a longer optimizer.warmup_steps or model.compute_dtype="
    "float32 may help; "
  )
