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
from alphaecoli.inference.prediction import (
  TRACK_HEADS,
  Embeddings,
  Prediction,
  Request,
  check_units,
  whole_bins,
)
from alphaecoli.inference.predictor import Key, Predictor, Progress, ShareOf
from alphaecoli.inference.tiling import n_bins, tile_length
from alphaecoli.schema import BIN_BP, HEADS
from alphaecoli.tracks import exposure
from alphaecoli.tracks.splits import UNTOUCHED

# From this share of a contig's bases on it is predicted out of fold. Ribosomal RNA and the most
# conserved genes of other genera are less, and would cost all of it its spread.
SHARED_FROM = 0.1

Masks = dict[int, Bool[np.ndarray, "M n"]]  # by resolution: members that predict a base or bin


@dataclasses.dataclass(frozen=True)
class _Plan:
  """A request, and which members predict what of it.

  Attributes:
    request: contig and interval.
    start: its first base, the interval being widened to whole bins.
    end: base after its last one.
    masks: members that predict each base and bin; None where the first ones predict everything.
    asked: what each member is asked, where there are masks.
    origin: what the prediction says of its members.
  """

  request: Request
  start: int
  end: int
  masks: Masks | None = None
  asked: Sequence[Sequence[Request]] = ()
  origin: exposure.Origin | None = None

  @property
  def share_of_work(self) -> float:
    """Returns the bases of the prediction for each base that a member is asked."""
    intervals = (request.interval for requests in self.asked for request in requests)
    whole = 0, len(self.request.codes)
    return (self.end - self.start) / sum(b - a for a, b in (i or whole for i in intervals))


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
    return bool((self._exposures.of(codes) < UNTOUCHED).any(axis=0).mean() >= SHARED_FROM)

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
    plans = map(self._plan, requests)
    for out_of_fold, run in itertools.groupby(plans, lambda plan: plan.masks is not None):
      predict = self._each_alone if out_of_fold else self._all_at_once
      for plan, prediction in predict(run, reverse_complement, share):
        yield prediction.in_units(units)
        if plan.origin is not None:
          length = plan.end - plan.start
          totals += length, out_of_fold * length, int(plan.origin.seen.sum())
    if not self._strict:
      exposure.say_shared(*totals.tolist())

  def _all_at_once(
    self, plans: Iterable[_Plan], reverse_complement: bool, share: ShareOf | None
  ) -> Iterator[tuple[_Plan, Prediction]]:
    """Predicts everything with the first members; windows of short contigs share a batch."""
    if share is not None:
      share.of_work = 1 / self._used
    *copies, own = itertools.tee(plans, self._used + 1)
    streams = [
      member.predict_many(
        (plan.request for plan in copy), reverse_complement=reverse_complement, progress=share
      )
      for member, copy in zip(self.members, copies, strict=False)
    ]
    for plan in own:
      yield plan, self._mean(plan, [next(stream) for stream in streams])

  def _each_alone(
    self, plans: Iterable[_Plan], reverse_complement: bool, share: ShareOf | None
  ) -> Iterator[tuple[_Plan, Prediction]]:
    """Predicts each base with the members that are to, contig by contig.

    None is asked beyond a contig: it may have nothing to predict in any that follows.
    """
    for plan in plans:
      if share is not None:
        share.of_work = plan.share_of_work
      pieces = (
        (number, piece)
        for number, (member, asked) in enumerate(zip(self.members, plan.asked, strict=True))
        for piece in member.predict_many(
          asked, reverse_complement=reverse_complement, progress=share
        )
      )
      yield plan, self._out_of_fold(plan, pieces)

  def _mean(self, plan: _Plan, predictions: Iterable[Prediction]) -> Prediction:
    """Averages members, in ln(1 + TPM)."""
    totals: dict[str, Any] = {}
    members: list[Prediction] = []
    for prediction in predictions:
      for name in HEADS:
        totals[name] = totals.get(name, 0) + getattr(prediction, name)
      nothing = np.zeros((0, 8), np.float32)  # large, and no spread is asked of it
      members.append(dataclasses.replace(prediction, table=self.table, gene_structure=nothing))
    means = {name: total / np.float32(len(members)) for name, total in totals.items()}
    spread = tuple(members) if self.has_spread else ()
    return dataclasses.replace(members[0], **means, members=spread, origin=plan.origin)

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
      origin=plan.origin,
    )

  def _plan(self, request: Request) -> _Plan:
    """Chooses the members that predict each base, and each bin."""
    start, end = request.interval or (0, len(request.codes))
    if not request.one_window:
      start, end = whole_bins(request.interval, len(request.codes))
    known = self._exposures
    return _Plan(request, start, end) if known is None else self._unseen(request, start, end, known)

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
    share = (exposures < UNTOUCHED).any(axis=0).mean()
    at = np.arange(start, start + bins * BIN_BP)
    by_base = exposures.take(at, axis=1, mode="wrap" if request.circular else "clip")
    by_bin = by_base.reshape(len(exposures), bins, BIN_BP).min(axis=2)
    by_base = by_base[:, : end - start]
    if not self._strict and share < SHARED_FROM:
      first = np.arange(len(exposures))[:, None] < self._used
      origin = exposure.Origin.of(np.broadcast_to(first, by_base.shape), by_base)
      return _Plan(request, start, end, origin=origin)
    if request.one_window:  # the same members all along
      by_base = np.broadcast_to(by_base.min(axis=1)[:, None], by_base.shape)
      by_bin = np.broadcast_to(by_base[:, :1], by_bin.shape)
    masks = {}
    for bp, values in ((1, by_base), (BIN_BP, by_bin)):
      if self._strict:
        exposure.check_unseen(name, start, values, bp)
      masks[bp] = exposure.least_exposed(values, self._used)
    asked = [self._regions(request, start, end, masks, n) for n in range(len(self.members))]
    return _Plan(request, start, end, masks, asked, exposure.Origin.of(masks[1], by_base))

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
