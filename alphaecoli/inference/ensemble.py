"""Several models as one: their mean and its spread, or each base by those that never saw it."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from alphaecoli.errors import ConfigError, DataError
from alphaecoli.genomics.gene_models import GeneModels
from alphaecoli.genomics.intervals import regions_of
from alphaecoli.inference.compiled import MOST_WAITING
from alphaecoli.inference.prediction import (
  TRACK_HEADS,
  Embeddings,
  Prediction,
  Request,
  check_units,
  whole_bins,
)
from alphaecoli.inference.predictor import Key, Predictor, Progress, ShareOf
from alphaecoli.inference.tiling import grouped, n_bins, tile_length
from alphaecoli.schema import BIN_BP, HEADS
from alphaecoli.tracks import exposure
from alphaecoli.tracks.splits import UNTOUCHED

# A contig is predicted out of fold where some members have seen this share of its bases, and others
# have not. Ribosomal RNA and the most conserved genes of other genera are less, and would cost all
# of it its spread.
SHARED_FROM = 0.1

Masks = dict[int, Bool[np.ndarray, "M n"]]  # by resolution: members that predict a base or bin


@dataclasses.dataclass(frozen=True)
class _Plan:
  """A request, and which members predict what of it.

  Attributes:
    request: contig and interval.
    start: its first base, the interval being widened to whole bins.
    end: base after its last one.
    asked: what each member is asked.
    masks: members that predict each base and bin; None where the first ones predict everything.
    origin: what the prediction says of its members.
  """

  request: Request
  start: int
  end: int
  asked: Sequence[Sequence[Request]]
  masks: Masks | None = None
  origin: exposure.Origin | None = None

  @property
  def work_bp(self) -> tuple[int, int]:
    """Returns the bases of the prediction, and those that members are asked, all added up."""
    own = self.start, self.end
    asked = (r.interval if self.masks else own for requests in self.asked for r in requests)
    return self.end - self.start, sum(b - a for a, b in (place or own for place in asked))


class Ensemble(Predictor):
  """Several models as one: their mean, and the standard deviation over them as its spread.

  Members may differ in sizes, windows and statistics. Expression is averaged as ln(1 + TPM), and
  z-scores are by the first member's table; `window_bp` and `margin_bp` are the shortest window's.
  """

  def __init__(
    self,
    members: Sequence[Predictor],
    *,
    about: dict[str, Any],
    trained: Sequence[Mapping[str, Any]] | None = None,
    strict: bool = True,
    genomes: Path | None = None,
    most: int | None = None,
  ):
    """Puts members together.

    Args:
      members: models with the same tracks and trained heads.
      about: metadata, to which the members' are added.
      trained: metadata items of the members' checkpoints, where each base is to be predicted out
        of fold: by members that have not seen it, of these by members that did not hold it out for
        validation where there are any. Such predictions have no spread.
      strict: whether that is asked of everything. Else it is done for what shares bases with the
        genomes of training, and what all members have seen is predicted by all, which is said.
      genomes: folder of genomes of training, as for `Exposures`.
      most: most members that predict a base, the first ones that may; None for all.

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
    self.gene_models = GeneModels(calls=first.gene_models.calls)  # genes are called once
    self._exposures = None if trained is None else exposure.Exposures(trained, genomes)
    self._strict = trained is not None and strict
    self._used = min(most or len(members), len(members))

  @property
  def choice(self) -> dict[str, Any]:
    """Returns which members predict what, for metadata."""
    told = {"out_of_fold": self._strict if self._exposures is None or self._strict else "auto"}
    return told if self._used == len(self.members) else {**told, "members_a_base": self._used}

  @property
  def has_spread(self) -> bool:
    """Returns whether predictions have a spread: not out of fold, by one member a base or few."""
    return not self._strict and self._used > 1

  def is_out_of_fold(self, codes: UInt8[np.ndarray, " L"]) -> bool:
    """Returns whether a contig is predicted out of fold, so without a spread."""
    if self._exposures is None or self._strict:
      return self._strict
    return exposure.share_of_choice(self._exposures.of(codes)) >= SHARED_FROM

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
    share = None if progress is None else ShareOf(progress)
    totals = np.zeros(3, np.int64)
    for plan, prediction in self._by_member(map(self._plan, requests), reverse_complement, share):
      yield prediction.in_units(units)
      if plan.origin is not None:
        length = plan.end - plan.start
        totals += length, bool(plan.masks) * length, int(plan.origin.seen.sum())
    if not self._strict:
      exposure.say_shared(*totals.tolist())

  def _by_member(
    self, plans: Iterable[_Plan], reverse_complement: bool, share: ShareOf | None
  ) -> Iterator[tuple[_Plan, Prediction]]:
    """Predicts bases with the members that are to, group by group; contigs of one share batches."""
    most = MOST_WAITING * self.batch_windows * self.window_bp
    for group in grouped(plans, lambda plan: plan.end - plan.start, most):
      if share is not None:
        share.of_work = np.divide(*np.sum([plan.work_bp for plan in group], axis=0)).item()
      predictions: Iterable[tuple[int, int, Prediction]] = (
        (owner, number, prediction)
        for number, member in enumerate(self.members)
        for owner, prediction in zip(
          (i for i, plan in enumerate(group) for _ in plan.asked[number]),
          member.predict_many(
            (request for plan in group for request in plan.asked[number]),
            reverse_complement=reverse_complement,
            progress=share,
          ),
          strict=True,
        )
      )
      if len(group) > 1:  # what is predicted of a long contig adds up as it comes
        predictions = sorted(predictions, key=lambda prediction: prediction[:2])
      owned = itertools.groupby(predictions, key=lambda prediction: prediction[0])
      for plan, (_, own) in zip(group, owned, strict=True):
        combine = self._mean if plan.masks is None else self._out_of_fold
        yield plan, combine(plan, ((number, prediction) for _, number, prediction in own))

  def _mean(self, plan: _Plan, predictions: Iterable[tuple[int, Prediction]]) -> Prediction:
    """Averages members, in ln(1 + TPM)."""
    totals: dict[str, Any] = {}
    members: list[Prediction] = []
    for _, prediction in predictions:
      for name in HEADS:
        totals[name] = totals.get(name, 0) + getattr(prediction, name)
      nothing = np.zeros((0, 8), np.float32)  # large, and no spread is asked of it
      members.append(dataclasses.replace(prediction, table=self.table, gene_structure=nothing))
    means = {name: total / np.float32(len(members)) for name, total in totals.items()}
    spread = tuple(members) if self.has_spread else ()
    return dataclasses.replace(members[0], **means, members=spread, origin=plan.origin)

  def _out_of_fold(self, plan: _Plan, predictions: Iterable[tuple[int, Prediction]]) -> Prediction:
    """Averages the members that are chosen for each base and bin, in ln(1 + TPM)."""
    assert plan.masks is not None
    totals = {
      name: np.zeros(self.table.shape(HEADS[name], plan.end - plan.start), np.float32)
      for name in {*TRACK_HEADS, *self.trained_heads}
    }
    for number, prediction in predictions:
      for name, total in totals.items():
        bp, values = HEADS[name].resolution_bp, getattr(prediction, name)
        first = (prediction.start - plan.start) // bp
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
      origin=plan.origin,
    )

  def _plan(self, request: Request) -> _Plan:
    """Chooses the members that predict each base, and each bin."""
    start, end = request.interval or (0, len(request.codes))
    if not request.one_window:
      start, end = whole_bins(request.interval, len(request.codes))
    known = self._exposures
    if known is not None:
      return self._unseen(request, start, end, known)
    return _Plan(request, start, end, self._asked_whole(request))

  def _asked_whole(self, request: Request) -> list[list[Request]]:
    """Asks the first members for all of a request."""
    return [[request] * (number < self._used) for number in range(len(self.members))]

  def _unseen(self, request: Request, start: int, end: int, known: exposure.Exposures) -> _Plan:
    """Finds which members are to predict each base, and each bin, by what they have not seen.

    Raises:
      ConfigError: the request is a single window, and strictly out of fold.
      DataError: strictly out of fold, no member was trained on the contig, or all on some base.
    """
    if request.one_window and self._strict:
      raise ConfigError("out of fold, windows lie as for whole contigs: one_window is not possible")
    exposures = known.of(request.codes)
    name, bins = request.contig or "the sequence", n_bins(end - start)
    if self._strict and (exposures == UNTOUCHED).all():
      raise DataError(
        f"{name} is not the genome that the ensemble was trained on, nor a part of it, so nothing "
        "of it is out of fold: predict it without --out-of-fold"
      )
    at = np.arange(start, start + bins * BIN_BP)
    by_base = exposures.take(at, axis=1, mode="wrap" if request.circular else "clip")
    by_bin = by_base.reshape(len(exposures), bins, BIN_BP).min(axis=2)
    by_base = by_base[:, : end - start]
    if not self._strict and exposure.share_of_choice(exposures) < SHARED_FROM:
      first = np.arange(len(exposures))[:, None] < self._used
      origin = exposure.Origin.of(np.broadcast_to(first, by_base.shape), by_base)
      return _Plan(request, start, end, self._asked_whole(request), origin=origin)
    if request.one_window:  # the same members all along
      by_base = np.broadcast_to(by_base.min(axis=1)[:, None], by_base.shape)
      by_bin = np.broadcast_to(by_base[:, :1], by_bin.shape)
    masks = {}
    for bp, values in ((1, by_base), (BIN_BP, by_bin)):
      if self._strict:
        exposure.check_unseen(name, start, values, bp)
      masks[bp] = exposure.least_exposed(values, self._used)
    asked = [self._regions(request, start, end, masks, n) for n in range(len(self.members))]
    return _Plan(request, start, end, asked, masks, exposure.Origin.of(masks[1], by_base))

  def _regions(
    self, request: Request, start: int, end: int, masks: Masks, number: int
  ) -> list[Request]:
    """Asks a member for the regions that it is to predict, those in one tile's reach as one."""
    if request.one_window:
      return [request] if masks[1][number].any() else []
    bins = np.zeros(masks[BIN_BP].shape[1] * BIN_BP, bool)
    bins[: end - start] = masks[1][number]
    gap = tile_length(len(request.codes), self.window_bp, self.margin_bp) - 2 * self.margin_bp
    found = regions_of(bins.reshape(-1, BIN_BP).any(axis=1) | masks[BIN_BP][number], gap // BIN_BP)
    places = ((start + a * BIN_BP, min(start + b * BIN_BP, end)) for a, b in found)
    return [dataclasses.replace(request, interval=place) for place in places]

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
    used = self.members[: self._used]
    if len(lengths := sorted({member.window_bp for member in used})) > 1:
      raise ConfigError(
        f"the members read windows of {' and '.join(map(str, lengths))} bp; choose one for all: "
        "--window-bp (in Python: window_bp=…)"
      )
    if self._strict:
      raise ConfigError("out of fold, only contigs are predicted, not windows of any place")
    streams = [
      member.run_windows(copy, reverse_complement)
      for member, copy in zip(used, itertools.tee(windows, len(used)), strict=True)
    ]
    for results in zip(*streams, strict=True):
      each = [
        self._rescaled(member, outputs) for member, (_, outputs) in zip(used, results, strict=True)
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
