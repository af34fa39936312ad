"""Effects of variants: the model's answer to the changed genome minus that to the unchanged one."""

import dataclasses
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int, UInt8

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import ContigFeatures, Gene
from alphaecoli.genomics.sequence import UNKNOWN, Contig, encode
from alphaecoli.genomics.vcf import Variant
from alphaecoli.inference.operon_calls import operons_of_bases
from alphaecoli.inference.prediction import spread_of
from alphaecoli.inference.predictor import Predictor
from alphaecoli.inference.tiling import window_start
from alphaecoli.variants.edits import (
  UPSTREAM_BP,
  Edit,
  Kind,
  View,
  alternative,
  distance_bp,
  genes_in,
  grid_offsets,
  kind_of,
  operons_in,
  random_variant,
  realigned,
  refusal,
  shifted,
  trimmed,
)
from alphaecoli.variants.scores import (
  WHERE,
  Effect,
  GeneEffect,
  VariantScore,
  channels,
  half_width,
  largest,
  mean_of,
  mean_over,
)

_ATTEMPTS = 100  # at drawing a random variant that fits
Values = list[list[Float32[np.ndarray, "W C"]]]  # by offset, then by member of an ensemble


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
  """A variant and where it is predicted.

  Attributes:
    contig: its contig; where the genome has an ambiguity letter, with the base that REF has there.
    views: windows on it, one for each offset; the numbers are in the first one's coordinates.
    named: first base and REF of a variant that so changes the contig; None where it does not.
  """

  variant: Variant
  contig: Contig
  views: tuple[View, ...]
  edit: Edit
  named: tuple[int, str] | None

  @property
  def view(self) -> View:
    """Returns the window in whose coordinates the numbers are."""
    return self.views[0]


def score_variants(
  predictor: Predictor,
  variants: Iterable[Variant],
  contigs: Mapping[str, Contig],
  features: Mapping[str, ContigFeatures],
  *,
  upstream_bp: int = UPSTREAM_BP,
  reverse_complement: bool = False,
  offsets: int = 1,
) -> Iterator[VariantScore]:
  """Scores variants in order; those that can not be scored come back with the reason.

  Reference and alternative are each predicted in one window, which lies centred on the variant
  (to 64 bp; against the end, near the end of a linear contig) and begins at the same base for both.
  Variants that follow one another in one such place share the reference's prediction. Where the
  genome has an ambiguity letter, REF is the base that VCF names for it, and is predicted as such.
  With several offsets, both are predicted in as many windows, each begun further on by a fraction
  of a bin, and changes are averaged base by base; bases that not all windows hold have none.

  Args:
    predictor: model to ask.
    variants: variants, any number of them.
    contigs: contigs of the genome, by name; those of unknown topology count as linear.
    features: genes and operons of contigs, by name.
    upstream_bp: distance before a gene's start from which on a variant affects it.
    reverse_complement: whether to average both strands.
    offsets: places of the windows on the model's grid of 128 bp, from 1 to 128.

  Raises:
    ConfigError: so many offsets are not possible.
  """
  steps = grid_offsets(offsets)
  waiting: deque[_Plan | VariantScore] = deque()  # refused variants are done already
  unknown = ContigFeatures()

  def windows() -> Iterator[tuple[tuple[_Plan | None, int], UInt8[np.ndarray, " W"]]]:
    """Lists reference windows of all offsets, followed by the alternatives that they serve."""
    place: tuple[str, int, tuple[int, str] | None] | None = None
    for variant in variants:
      reason = refusal(variant, contigs, predictor.window_bp)
      if reason:
        waiting.append(VariantScore(variant, reason))
        continue
      plan = _plan(variant, contigs[variant.contig], predictor.window_bp, steps)
      waiting.append(plan)
      if place != (plan.contig.name, plan.view.first, plan.named):
        place = plan.contig.name, plan.view.first, plan.named
        for number, view in enumerate(plan.views):
          yield (None, number), predictor.cut(plan.contig.codes, view.first, view.circular)
      for number, view in enumerate(plan.views):
        yield (plan, number), alternative(plan.contig.codes, view, plan.edit)

  reference: Values = []
  found: Values = []
  for (plan, number), members in predictor.run_members(windows(), reverse_complement):
    values = [channels(outputs, predictor.table, predictor.window_bp) for outputs in members]
    found = [*(found if number else []), values]
    if len(found) < offsets:
      continue
    if plan is None:
      reference = found
      continue
    while isinstance(refused := waiting.popleft(), VariantScore):
      yield refused
    around = features.get(plan.variant.contig, unknown)
    yield _score(plan, reference, found, around, upstream_bp)
  yield from (score for score in waiting if isinstance(score, VariantScore))


def random_sizes(
  predictor: Predictor,
  variants: Sequence[Variant],
  contigs: Mapping[str, Contig],
  count: int,
  *,
  seed: int = 0,
  reverse_complement: bool = False,
  offsets: int = 1,
) -> dict[Kind, Float64[np.ndarray, " n"]]:
  """Scores random variants of the kinds that some variants have, on the same genome.

  All kinds are drawn at the same places, so that they share the reference's windows, and what is
  drawn for one kind does not depend on the others.

  Args:
    predictor: model to ask.
    variants: variants; those that can not be scored have no kind.
    contigs: contigs of the genome, by name.
    count: random variants of each kind.
    seed: seed of the draw.
    reverse_complement: whether to average both strands.
    offsets: places of the windows, as for `score_variants`.

  Returns:
    By kind, the sizes of the effects, ascending: `VariantScore.size`.

  Raises:
    DataError: the genome has no place for a kind.
  """
  fits = [v for v in variants if not refusal(v, contigs, predictor.window_bp)]
  kinds = sorted({kind_of(variant) for variant in fits})

  def draws() -> Iterator[Variant]:
    for number in range(count):
      for kind in kinds:
        for attempt in range(_ATTEMPTS):
          variant = random_variant(kind, contigs, (seed, number, attempt))
          if variant and not refusal(variant, contigs, predictor.window_bp):
            yield variant
            break
        else:
          raise DataError(
            f"no random variant that replaces {kind[0]} bp by {kind[1]} fits the genome; score "
            "without a background"
          )

  found: dict[Kind, list[float]] = defaultdict(list)
  scores = score_variants(
    predictor, draws(), contigs, {}, reverse_complement=reverse_complement, offsets=offsets
  )
  for score in scores:
    found[kind_of(score.variant)].append(score.size)
  return {kind: np.sort(sizes) for kind, sizes in found.items()}


def with_quantile(
  score: VariantScore, sizes: Mapping[Kind, Float64[np.ndarray, " n"]]
) -> VariantScore:
  """Adds the share of random variants of the same kind with smaller effects; ties count half."""
  drawn = sizes.get(kind_of(score.variant)) if not score.reason else None
  if drawn is None or np.isnan(score.size):
    return score
  below = np.searchsorted(drawn, score.size, "left") + np.searchsorted(drawn, score.size, "right")
  return dataclasses.replace(score, quantile=float(below) / (2 * len(drawn)))


def _plan(variant: Variant, contig: Contig, window_bp: int, steps: Sequence[int]) -> _Plan:
  """Plans where a variant is predicted."""
  end, circular = variant.start + len(variant.ref), bool(contig.circular)
  first = window_start(contig.length_bp, variant.start, end, window_bp, circular)
  centre = (variant.start + end) // 2
  # Near the end of a linear contig windows hang over it, so that they do not lose the variant.
  outwards = -1 if centre < contig.length_bp // 2 else 1
  views = tuple(
    View.around(first + outwards * step, window_bp, contig.length_bp, circular, centre)
    for step in steps
  )
  at = np.arange(len(variant.ref)) + variant.start
  if UNKNOWN not in contig.codes.take(at, mode="wrap"):
    return _Plan(variant, contig, views, trimmed(variant), None)
  named = contig.codes.copy()
  named[at % contig.length_bp] = encode(variant.ref)
  changed = dataclasses.replace(contig, codes=named)
  return _Plan(variant, changed, views, trimmed(variant), (variant.start, variant.ref.upper()))


def _score(
  plan: _Plan,
  references: Values,
  values: Values,
  around: ContigFeatures,
  upstream_bp: int,
) -> VariantScore:
  """Computes the numbers of one variant, from what each member of an ensemble predicts."""
  variant, view, edit = plan.variant, plan.view, plan.edit
  each: Values = []
  for own, before, after in zip(plan.views, references, values, strict=True):
    changes = [realigned(a, own, edit) - b for b, a in zip(before, after, strict=True)]
    each.append([shifted(member, own.first - view.first) for member in changes])
  members = [mean_of(member) for member in zip(*each, strict=True)]
  before = [
    shifted(mean_of(one), own.first - view.first)
    for own, one in zip(plan.views, references, strict=True)
  ]
  reference, change = mean_of(before), mean_of(members)
  by_offset = [mean_of(offset) for offset in each]
  counted = slice(view.low, view.high)
  at = np.arange(len(variant.ref)) + variant.start - view.first
  genes = tuple(
    _gene_effect(near, reference, (change, members, by_offset), plan, upstream_bp)
    for near in genes_in(around, view)
  )
  affected = [effect for effect in genes if effect.affected]
  gene = max(
    affected, key=lambda effect: float(np.nansum(np.abs(effect.change[:-2]))), default=None
  )
  interval, rows = _operon(around, view, reference, at, gene)
  nothing = np.full(change.shape[1], np.nan)

  def numbers(change: Float32[np.ndarray, "W C"], in_gene: Effect | None) -> dict[str, Effect]:
    return {
      "at_variant": mean_over(change, at),
      "in_gene": nothing if in_gene is None else in_gene,
      "in_operon": mean_over(change, rows),
      "mean_abs": mean_over(np.abs(change), counted),
      "max_abs": largest(np.abs(change), counted),
    }

  spreads = {}
  if len(members) > 1:
    given = [numbers(member, None) for member in members]
    spreads = {name: spread_of([of[name] for of in given]) for name in WHERE}
    spreads["in_gene"] = nothing if gene is None or gene.spread is None else gene.spread
  return VariantScore(
    variant,
    window=(view.first, view.first + view.window_bp),
    changes=numbers(change, None if gene is None else gene.change),
    spreads=spreads,
    genes=genes,
    gene=gene,
    operon=interval,
    grid=None if gene is None else gene.grid,
  )


def _gene_effect(
  gene: Gene,
  reference: Float32[np.ndarray, "W C"],
  changes: tuple[
    Float32[np.ndarray, "W C"],
    Sequence[Float32[np.ndarray, "W C"]],
    Sequence[Float32[np.ndarray, "W C"]],
  ],
  plan: _Plan,
  upstream_bp: int,
) -> GeneEffect:
  """Computes what one variant does to one gene, over those of its bases that both alleles have.

  Args:
    gene: a gene in view.
    reference: prediction without the variant.
    changes: the mean change, that of each member of an ensemble, and that at each offset.
    plan: the variant and its windows.
    upstream_bp: distance before the gene from which on a variant affects it.
  """
  variant, view = plan.variant, plan.view
  change, members, by_offset = changes
  bases = gene.bases(view.length_bp)
  rows = view.where(bases)
  rows = rows[~np.isnan(change[rows]).all(axis=1)]
  distance = distance_bp(gene, variant.start, variant.start + len(variant.ref), view)
  return GeneEffect(
    gene=gene,
    distance_bp=distance,
    affected=-upstream_bp <= distance <= 0,
    share=len(rows) / len(bases),
    reference=mean_over(reference, rows),
    change=mean_over(change, rows),
    spread=spread_of([mean_over(m, rows) for m in members]) if len(members) > 1 else None,
    grid=half_width([mean_over(one, rows) for one in by_offset]) if len(by_offset) > 1 else None,
  )


def _operon(
  around: ContigFeatures,
  view: View,
  reference: Float32[np.ndarray, "W C"],
  at: Int[np.ndarray, " n"],
  gene: GeneEffect | None,
) -> tuple[tuple[int, int] | None, Int[np.ndarray, " m"]]:
  """Finds the operon at a variant, else the nearest in the affected gene, and its bases."""
  own = np.zeros(0, np.int64)
  if gene is not None:
    own = view.where(gene.gene.bases(view.length_bp))
  if around.operons is not None:
    found = [(s, view.where(np.arange(*s))) for s in operons_in(around, view)]
  else:
    predicted = operons_of_bases(reference[view.low : view.high, -1], circular=False)
    bounds = [(operon.start + view.low, operon.end + view.low) for operon in predicted]
    found = [((view.first + a, view.first + b), np.arange(a, b)) for a, b in bounds]
  found.sort(key=lambda operon: int(np.abs(operon[1] - at[0]).min()))
  for wanted in (at, own):
    for interval, rows in found:
      if np.isin(wanted, rows).any():
        return interval, rows
  return None, np.zeros(0, np.int64)
