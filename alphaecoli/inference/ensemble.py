"""Several models as one: their mean and its spread, or each base by those that never saw it."""

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.gene_models import GeneModels
from alphaecoli.genomics.intervals import regions_of
from alphaecoli.inference.prediction import (
  TRACK_HEADS,
  Embeddings,
  Prediction,
  Request,
  check_units,
  whole_bins,
)
from alphaecoli.inference.predictor import Key, Predictor, Progress
from alphaecoli.inference.tiling import n_bins
from alphaecoli.schema import BIN_BP, HEADS
from alphaecoli.tracks.splits import SEEN, UNTOUCHED, exposure

LOGGER = logging.getLogger(__name__)


Masks = dict[int, Bool[np.ndarray, "M n"]]  # by resolution: members that predict a base or bin


@dataclasses.dataclass(frozen=True)
class _Plan:
  """A request, and which members predict what of it.

  Attributes:
    request: contig and interval.
    start: its first base, the interval being widened to whole bins.
    end: base after its last one.
    masks: members that predict each base and bin; None where all predict everything.
  """

  request: Request
  start: int
  end: int
  masks: Masks | None

  def requests(self, number: int) -> list[Request]:
    """Lists what a member is asked: out of fold, the regions that it is to predict."""
    if self.masks is None:
      return [self.request]
    bins = np.repeat(self.masks[BIN_BP][number], BIN_BP)[: self.end - self.start]
    regions = regions_of(self.masks[1][number] | bins)
    return [
      dataclasses.replace(self.request, interval=(self.start + a, self.start + b))
      for a, b in regions
    ]


class Ensemble(Predictor):
  """Several models as one: their mean, and the standard deviation over them as its spread.

  Members may differ in their sizes, windows and statistics. Expression is averaged as
  ln(1 + TPM), what else they predict as it is; z-scores are by the first member's table, which is
  the ensemble's. `window_bp` and `margin_bp` are those of the shortest window.
  """

  def __init__(
    self,
    members: Sequence[Predictor],
    *,
    about: dict[str, Any],
    trained: Sequence[Mapping[str, Any]] | None = None,
  ):
    """Puts members together.

    Args:
      members: models with the same tracks and trained heads.
      about: metadata, to which the members' are added.
      trained: metadata items of the members' checkpoints, where each base is to be predicted out
        of fold: by members that have not seen it, of these by members that did not hold it out for
        validation where there are any. Such predictions have no spread.

    Raises:
      ConfigError: members have other tracks or heads.
      DataError: a checkpoint does not say what it was trained on, and that is asked.
    """
    first, shortest = members[0], min(members, key=lambda member: member.window_bp)
    for member in members:
      for what, own, others in (
        ("tracks", first.table.names, member.table.names),
        ("heads", first.trained_heads, member.trained_heads),
      ):
        if own != others:
          raise ConfigError(
            f"members of an ensemble have the same {what}; {first.about['checkpoint']} has "
            f"{', '.join(own)}, and {member.about['checkpoint']} {', '.join(others)}"
          )
    for member, meta in zip(members, trained or [], strict=trained is not None):
      if "trained_on" not in meta:
        raise DataError(
          f"{member.about['checkpoint']} does not say what it was trained on, as checkpoints of "
          "older versions do not, so what it has not seen is unknown"
        )
    self.members = tuple(members)
    self.table, self.trained_heads = first.table, first.trained_heads
    self.window_bp, self.margin_bp = shortest.window_bp, shortest.margin_bp
    self.batch_windows = shortest.batch_windows
    self.about = {**about, "members": [member.about for member in members]}
    # Genes are called once, from the mean; members weigh their own predictions.
    self.gene_models = GeneModels(calls=first.gene_models.calls)
    self._trained = trained

  @property
  def has_spread(self) -> bool:
    """Returns whether predictions have a spread: not out of fold, by one member a base or few."""
    return self._trained is None

  def predict_many(
    self,
    requests: Iterable[Request],
    *,
    reverse_complement: bool = False,
    units: str = "log_tpm",
    progress: Progress | None = None,
  ) -> Iterator[Prediction]:
    """Predicts contigs in order with every member, each with windows of its own.

    Raises:
      DataError: out of fold, the members were not trained on a contig, or all on a base of it.
    """
    check_units(units)
    *copies, own = itertools.tee(map(self._plan, requests), len(self.members) + 1)
    each = progress
    if progress is not None and self._trained is None:
      each = _share_of(progress, len(self.members))
    streams = [
      member.predict_many(
        _requests_of(number, copy), reverse_complement=reverse_complement, progress=each
      )
      for number, (member, copy) in enumerate(zip(self.members, copies, strict=True))
    ]
    for plan in own:
      pieces = ((n, next(stream)) for n, stream in enumerate(streams) for _ in plan.requests(n))
      put_together = self._mean if plan.masks is None else self._out_of_fold
      yield put_together(plan, pieces).in_units(units)

  def _mean(self, plan: _Plan, predictions: Iterable[tuple[int, Prediction]]) -> Prediction:
    """Averages all members, in ln(1 + TPM)."""
    totals: dict[str, Any] = {}
    members: list[Prediction] = []
    for _, prediction in predictions:
      for name in HEADS:
        totals[name] = totals.get(name, 0) + getattr(prediction, name)
      nothing = np.zeros((0, 8), np.float32)  # large, and no spread is asked of it
      members.append(dataclasses.replace(prediction, table=self.table, gene_structure=nothing))
    means = {name: total / np.float32(len(members)) for name, total in totals.items()}
    return dataclasses.replace(members[0], **means, members=tuple(members))

  def _out_of_fold(self, plan: _Plan, pieces: Iterable[tuple[int, Prediction]]) -> Prediction:
    """Averages the members that are chosen for each base and bin, in ln(1 + TPM)."""
    assert plan.masks is not None
    totals = {
      name: np.zeros(self.table.shape(HEADS[name], plan.end - plan.start), np.float32)
      for name in {*TRACK_HEADS, *self.trained_heads}
    }
    for number, piece in pieces:
      for name, total in totals.items():
        bp, values = HEADS[name].resolution_bp, getattr(piece, name)
        first = (piece.start - plan.start) // bp
        rows = slice(first, first + len(values))
        total[rows] += np.where(plan.masks[bp][number, rows, None], values, 0)
    counts = {bp: mask.sum(axis=0, dtype=np.float32)[:, None] for bp, mask in plan.masks.items()}
    means = {name: total / counts[HEADS[name].resolution_bp] for name, total in totals.items()}
    return Prediction(
      **means,
      table=self.table,
      start=plan.start,
      circular=plan.request.circular,
      contig=plan.request.contig,
    )

  def _plan(self, request: Request) -> _Plan:
    """Chooses the members that predict each base, and each bin."""
    start, end = request.interval or (0, len(request.codes))
    if not request.one_window:
      start, end = whole_bins(request.interval, len(request.codes))
    masks = None if self._trained is None else self._unseen(request, start, end)
    return _Plan(request, start, end, masks)

  def _unseen(self, request: Request, start: int, end: int) -> Masks:
    """Finds which members are to predict each base, and each bin, by what they have not seen.

    Raises:
      ConfigError: the request is a single window.
      DataError: no member was trained on the contig, or all were on some base.
    """
    if request.one_window:
      raise ConfigError("out of fold, windows lie as for whole contigs: one_window is not possible")
    each = (
      exposure(meta["trained_on"], meta["config"]["data"], request.codes)
      for meta in self._trained or ()
    )
    exposures = np.stack(list(each))
    name, bins = request.contig or "the sequence", n_bins(end - start)
    if (exposures == UNTOUCHED).all():
      raise DataError(
        f"{name} is not the genome that the ensemble was trained on, base by base from the same "
        "first one on, so nothing of it is out of fold: predict it without --out-of-fold"
      )
    at = np.arange(start, start + bins * BIN_BP)
    by_base = exposures.take(at, axis=1, mode="wrap" if request.circular else "clip")
    by_bin = by_base.reshape(len(exposures), bins, BIN_BP).min(axis=2)
    masks = {}
    for bp, values in ((1, by_base[:, : end - start]), (BIN_BP, by_bin)):
      best = values.max(axis=0)
      if seen := int((best == SEEN).sum()):
        raise DataError(
          f"{name}: every member was trained on {seen:,} of {len(best):,} "
          f"{'bases' if bp == 1 else 'bins'}, the first at base {start + bp * int(best.argmin())}; "
          "out of fold, the ensemble must have the folds that hold them out"
        )
      masks[bp] = values == best
      if bp == 1 and (held_out := int((best < UNTOUCHED).sum())):
        LOGGER.warning(
          "%s: %s bases are in no member's test split; members that held them out otherwise, for "
          "validation, predict them",
          name,
          f"{held_out:,}",
        )
    return masks

  def run_windows(
    self, windows: Iterable[tuple[Key, UInt8[np.ndarray, " W"]]], reverse_complement: bool = False
  ) -> Iterator[tuple[Key, dict[str, np.ndarray]]]:
    """Runs every member on windows, and averages what they give."""
    for key, each in self.run_members(windows, reverse_complement):
      yield (
        key,
        {name: np.mean([outputs[name] for outputs in each], axis=0) for name in self.trained_heads},
      )

  def run_members(
    self, windows: Iterable[tuple[Key, UInt8[np.ndarray, " W"]]], reverse_complement: bool = False
  ) -> Iterator[tuple[Key, list[dict[str, np.ndarray]]]]:
    """Runs every member on windows.

    Raises:
      ConfigError: members read windows of different lengths, or it is to be out of fold.
    """
    lengths = sorted({member.window_bp for member in self.members})
    if len(lengths) > 1:
      raise ConfigError(
        f"the members read windows of {' and '.join(map(str, lengths))} bp; choose one for all: "
        "--window-bp (in Python: window_bp=…)"
      )
    if self._trained is not None:
      raise ConfigError("out of fold, only contigs are predicted, not windows of any place")
    streams = [
      member.run_windows(copy, reverse_complement)
      for member, copy in zip(self.members, itertools.tee(windows, len(self.members)), strict=True)
    ]
    for results in zip(*streams, strict=True):
      each = [
        self._rescaled(member, outputs)
        for member, (_, outputs) in zip(self.members, results, strict=True)
      ]
      yield results[0][0], each

  def _rescaled(self, member: Predictor, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Converts a member's z-scores to those of the ensemble's table."""
    if "gene_expression" not in outputs or member.table.expression == self.table.expression:
      return outputs
    z = self.table.to_z(member.table.to_log_tpm(outputs["gene_expression"]))
    return {**outputs, "gene_expression": z}

  def embed_many(self, requests: Iterable[Request]) -> Iterator[Embeddings]:
    """Refuses.

    Raises:
      ConfigError: in any case.
    """
    raise ConfigError(
      "the embeddings of different models have no mean: load one member, such as "
      f"{self.members[0].about['checkpoint']}"
    )


def _requests_of(number: int, plans: Iterable[_Plan]) -> Iterator[Request]:
  """Yields what a member is asked, for all plans in order."""
  for plan in plans:
    yield from plan.requests(number)


def _share_of(progress: Progress, members: int) -> Progress:
  """Returns a progress for members, each of which reports all bases."""
  done = 0

  def add(bases: int) -> None:
    nonlocal done
    before, done = done // members, done + bases
    progress(done // members - before)

  return add
