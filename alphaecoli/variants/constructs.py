"""Two versions of a construct, compared gene by gene."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from alphaecoli.errors import DataError
from alphaecoli.genomics.genes import Gene
from alphaecoli.inference.arguments import AnnotatedGenome
from alphaecoli.inference.prediction import Request, spread_of
from alphaecoli.inference.predictor import Predictor
from alphaecoli.inference.tables import STRANDS
from alphaecoli.tracks.track_table import TrackTable
from alphaecoli.variants.scores import Effect, channels, gene_label, mean_over


class PredictedGene(NamedTuple):
  """A gene and what is predicted for it: ln(1 + TPM) of each track, density, probability.

  Attributes:
    gene: the gene.
    values: means over its bases.
    members: the same by each member of an ensemble.
  """

  gene: Gene
  values: Effect
  members: tuple[Effect, ...] = ()


class Pair(NamedTuple):
  """A gene in both constructs, or in one of them."""

  first: PredictedGene | None
  second: PredictedGene | None

  @property
  def either(self) -> PredictedGene:
    """Returns the gene in the first construct that has it."""
    found = self.first or self.second
    assert found is not None
    return found


def compare_constructs(
  predictor: Predictor,
  first: AnnotatedGenome,
  second: AnnotatedGenome,
  *,
  reverse_complement: bool = False,
) -> list[Pair]:
  """Predicts both constructs as a whole, and pairs their genes.

  Genes are the same when they share a locus tag, else a name; of several with one name the first
  is paired with the first, and so on.

  Returns:
    The first construct's genes in order, then those that only the second one has.

  Raises:
    DataError: one of them has no gene.
  """
  ours, theirs = (
    list(_predicted(predictor, genome, reverse_complement)) for genome in (first, second)
  )
  if not ours or not theirs:
    which = "second" if ours else "first"
    raise DataError(
      f"the {which} construct has no gene; expected GenBank with genes, or an annotation beside it"
    )
  pairs: dict[int, Pair] = {}
  left = list(range(len(theirs)))
  for key in ("locus_tag", "name"):
    waiting: dict[str, list[int]] = defaultdict(list)
    for number in left:
      waiting[getattr(theirs[number].gene, key)].append(number)
    for number, one in enumerate(ours):
      same = waiting[getattr(one.gene, key)]
      if number not in pairs and getattr(one.gene, key) and same:
        match = same.pop(0)
        left.remove(match)
        pairs[number] = Pair(one, theirs[match])
  shared = [pairs.get(number, Pair(one, None)) for number, one in enumerate(ours)]
  return shared + [Pair(None, theirs[number]) for number in left]


def _predicted(
  predictor: Predictor, genome: AnnotatedGenome, both: bool
) -> Iterator[PredictedGene]:
  """Yields the genes of a construct with their mean predictions, contig by contig."""
  requests = [Request(c.codes, bool(c.circular), None, c.name) for c in genome.values()]
  results = predictor.predict_many(requests, reverse_complement=both, units="z")
  for contig, result in zip(genome.values(), results, strict=True):
    values, *members = (
      channels(one.to_numpy(), predictor.table, contig.length_bp)
      for one in (result, *result.members)
    )
    for placed in genome.features[contig.name].genes:
      bases = placed.bases(contig.length_bp)
      each = tuple(mean_over(member, bases) for member in members)
      yield PredictedGene(placed, mean_over(values, bases), each)


def pair_columns(table: TrackTable, has_spread: bool = False) -> list[str]:
  """Names the columns of the table of genes. Positions are 1-based and inclusive."""
  places = [
    f"{key}_{which}" for which in ("a", "b") for key in ("contig", "start", "end", "strand")
  ]
  tracks = [f"{what}:{t}" for t in table.names for what in ("log_tpm_a", "log_tpm_b", "change")]
  spreads = [f"change_spread:{t}" for t in table.names] + ["membership_change_spread"]
  return [
    "gene",
    "name",
    "in",
    *places,
    *tracks,
    *(f"membership_{k}" for k in ("a", "b", "change")),
    *(spreads if has_spread else ()),
  ]


def pair_row(pair: Pair) -> list[Any]:
  """Makes one row of the table of genes."""
  gene = pair.either.gene
  where = "both" if pair.first and pair.second else "a" if pair.first else "b"
  row: list[Any] = [gene_label(gene), gene.name, where]
  for one in pair:
    g = one and one.gene
    row += [g.contig, g.start + 1, g.end, STRANDS[g.strand]] if g else [None] * 4
  size = len(pair.either.values)
  a, b = (np.full(size, np.nan) if one is None else one.values for one in pair)
  for channel in [*range(size - 2), size - 1]:  # density, the last but one, has no column
    row += [float(a[channel]), float(b[channel]), float(b[channel] - a[channel])]
  if not pair.either.members:
    return row
  spread = np.full(size, np.nan)
  if pair.first and pair.second:
    both = zip(pair.first.members, pair.second.members, strict=True)
    spread = spread_of([after - before for before, after in both])
  return row + np.delete(spread, size - 2).tolist()
