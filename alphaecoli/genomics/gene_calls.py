"""Genes called from a sequence and the log odds of its codon positions and RNA genes.

A protein-coding gene is an open reading frame: from a start codon to the next stop codon of its
frame. A checkpoint's coding model (coding_model.py) weighs what the checkpoint predicts over its
codons, their use and what lies before the start. Without one, the score is the sum, over its
codons, of the log odds that their bases are the first, second and third of a codon on that strand,
and the start codon is the one that makes the sum largest. Frames that overlap a better one are
dropped.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from alphaecoli.genomics.coding_model import (
  STOPS,
  CodingModel,
  Counts,
  count,
  log_odds,
  reading_frames,
  word,
  words,
)
from alphaecoli.genomics.intervals import regions_of
from alphaecoli.genomics.sequence import reverse_complement

# Log fraction of each start codon relative to ATG: 3,868, 336 and 81 of the protein-coding genes of
# the embedded data set, E. coli K-12 MG1655.
START_PRIORS = {"ATG": 0.0, "GTG": -2.4, "TTG": -3.9}
MIN_CODONS = 20  # the shortest gene that is called
MIN_SCORE = 12.0  # log odds, nats, without a coding model
MIN_LOG_ODDS = -1.6  # of a coding model; chosen on the validation splits of folds 0 to 3
LEAST_GENES = 300  # called in a genome, for its codon use and starts to be counted anew
ROUNDS = 2  # of counting and calling
LEAST_GROWTH = 1.01  # of the genes counted, for them to be counted anew: contigs may be thousands
MAX_LOGIT = 6.0  # of one base: none decides alone
MAX_OVERLAP_BP = 60  # with a better gene
MIN_RNA_BP = 50  # the shortest RNA gene that is called
MIN_COVERED = 0.05  # fraction of a contig below which the model has not learnt to call genes
WRAP_BP = 50_000  # bases of a circular contig read again on either side: the longest gene there
THREADS_FROM_BP = 100_000  # both strands of a longer sequence are read at once
# Everything that decides which genes are called and used, for the record.
SETTINGS: Mapping[str, Any] = {
  "start_codons": START_PRIORS,
  "stop_codons": list(STOPS),
  "min_codons": MIN_CODONS,
  "min_score": MIN_SCORE,
  "min_log_odds": MIN_LOG_ODDS,
  "least_genes": LEAST_GENES,
  "least_growth": LEAST_GROWTH,
  "max_logit": MAX_LOGIT,
  "max_overlap_bp": MAX_OVERLAP_BP,
  "min_rna_bp": MIN_RNA_BP,
  "min_covered": MIN_COVERED,
  "wrap_bp": WRAP_BP,
}
# Channels of gene_structure by strand (tracks/gene_targets.py): codon positions, RNA genes.
_CODING = {1: slice(0, 3), -1: slice(4, 7)}
_RNA = {1: 3, -1: 7}


@dataclasses.dataclass(frozen=True, slots=True)
class CalledGene:
  """A gene called from sequence, 0-based and half-open; the stop codon is part of it.

  Attributes:
    start: first base on the forward strand.
    end: base after the last one; past the contig's length where the gene passes the origin.
    strand: +1 or -1.
    score: log odds of a gene by a coding model; without one the sum of log odds over its codons, in
      nats; of an RNA gene, over its bases.
    rna: whether it is an RNA gene, which has no codons.
  """

  start: int
  end: int
  strand: int
  score: float
  rna: bool = False


class GeneCaller:
  """Calls the genes of a genome, contig by contig.

  A coding model counts them as it goes: once there are `LEAST_GENES`, codon use and starts are
  those of this genome, and no longer of the one that the checkpoint learnt from. A contig that adds
  little (`LEAST_GROWTH`) is called by what was counted before it.
  """

  def __init__(self, model: CodingModel | None = None):
    """Starts a genome.

    Args:
      model: coding model of the checkpoint, if it has one.
    """
    self._model = model
    self._counts: Counts | None = None
    self._recounted: CodingModel | None = None  # of this genome
    self._counted = 0  # genes that it is of

  def call(
    self, codes: UInt8[np.ndarray, "L"], structure: Float[np.ndarray, "L 8"], circular: bool
  ) -> list[CalledGene]:
    """Calls the genes of a contig, protein-coding and RNA, sorted by start.

    Args:
      codes: bases A C G T as 0 1 2 3, anything else 4.
      structure: predicted gene_structure, probabilities.
      circular: whether the contig's end joins its start.
    """
    likely = np.clip(structure, 1e-6, 1 - 1e-6)  # 0 and 1 have no log odds
    logits = np.log(likely) - np.log1p(-likely)
    found = self._call_coding(codes, logits, circular) + call_rna_genes(logits, circular=circular)
    return sorted(found, key=lambda gene: (gene.start, gene.end))

  def _call_coding(
    self, codes: UInt8[np.ndarray, "L"], logits: Float[np.ndarray, "L 8"], circular: bool
  ) -> list[CalledGene]:
    """Calls protein-coding genes, and again once they and those of earlier contigs are counted."""
    if self._model is None:
      return call_genes(codes, logits, circular=circular)
    before, model = self._counts, self._recounted or self._model
    region = _Region.of(codes, logits, circular)
    for _ in range(ROUNDS + 1):
      found = region.call(model)
      own = count(codes, [(gene.start, gene.end, gene.strand) for gene in found])
      self._counts = counts = own if before is None else before + own
      if counts.genes < max(LEAST_GENES, LEAST_GROWTH * self._counted):
        return found
      model = self._model.recounted(counts)
    self._recounted, self._counted = model, counts.genes
    return found


def are_plausible(calls: Iterable[CalledGene], length_bp: int) -> bool:
  """Tells whether calls cover as much of a contig as those of a model that has learnt to call."""
  return sum(gene.end - gene.start for gene in calls) >= MIN_COVERED * length_bp


def call_rna_genes(logits: Float[np.ndarray, "L 8"], *, circular: bool = False) -> list[CalledGene]:
  """Calls RNA genes: regions of at least 50 bp where one is more likely than not at every base.

  Args:
    logits: log odds of gene_structure.
    circular: whether the contig's end joins its start.
  """
  found = []
  for strand, channel in _RNA.items():
    own = np.clip(logits[:, channel], -MAX_LOGIT, MAX_LOGIT)
    for start, end in regions_of(own > 0, circular=circular):
      if end - start >= MIN_RNA_BP:
        score = own.take(np.arange(start, end), mode="wrap").sum(dtype=np.float64)
        found.append(CalledGene(start, end, strand, float(score), rna=True))
  return found


def call_genes(
  codes: UInt8[np.ndarray, "L"],
  logits: Float[np.ndarray, "L 8"],
  *,
  circular: bool = False,
  model: CodingModel | None = None,
) -> list[CalledGene]:
  """Calls the protein-coding genes of a contig or region, sorted by start; all of them are whole.

  Args:
    codes: bases A C G T as 0 1 2 3, anything else 4.
    logits: log odds of gene_structure: per strand three codon positions, then RNA genes.
    circular: whether the end joins the start; genes may then pass the origin.
    model: weighs all evidence of a gene; without one, the log odds decide.
  """
  return _Region.of(codes, logits, circular).call(model)


@dataclasses.dataclass(frozen=True)
class _Region:
  """What genes are called in, as often as there are models to weigh it by.

  Attributes:
    length_bp: bases of the contig.
    around_bp: bases of a circular one that are read again before and after it.
    strands: what `strands` yields.
  """

  length_bp: int
  around_bp: int
  strands: Sequence[tuple[int, UInt8[np.ndarray, "L"], Float[np.ndarray, "L 3"]]]

  @classmethod
  def of(
    cls, codes: UInt8[np.ndarray, "L"], logits: Float[np.ndarray, "L 8"], circular: bool
  ) -> "_Region":
    """Prepares a contig."""
    around = min(len(codes), WRAP_BP) if circular else 0
    if around:
      at = np.arange(-around, len(codes) + around)
      read = codes.take(at, mode="wrap"), logits.take(at, axis=0, mode="wrap")
      return cls(len(codes), around, list(strands(*read)))
    return cls(len(codes), 0, list(strands(codes, logits)))

  def call(self, model: CodingModel | None) -> list[CalledGene]:
    """Calls genes. Near an origin they are found twice; of the copies one starts on the contig."""
    total, candidates = self.length_bp + 2 * self.around_bp, list[CalledGene]()

    def find(own: tuple[int, Any, Any]) -> list[tuple[int, int, float]]:
      return _frames(*own[1:]) if model is None else _weighed_frames(*own[1:], model)

    with ThreadPoolExecutor(2) as pool:
      found = (pool.map if total > THREADS_FROM_BP else map)(find, self.strands)
      for (strand, *_), frames in zip(self.strands, found, strict=True):
        for start, end, score in frames:
          low, high = (start, end) if strand > 0 else (total - end, total - start)
          candidates.append(CalledGene(low, high, strand, score))
    kept = _without_overlaps(candidates, total)
    if not self.around_bp:
      return kept
    places = ((gene, gene.start - self.around_bp, gene.end - self.around_bp) for gene in kept)
    return [
      dataclasses.replace(gene, start=start, end=end)
      for gene, start, end in places
      if 0 <= start < self.length_bp and end - start <= self.length_bp
    ]


def strands(
  codes: UInt8[np.ndarray, "L"], logits: Float[np.ndarray, "L 8"]
) -> Iterator[tuple[int, UInt8[np.ndarray, "L"], Float[np.ndarray, "L 3"]]]:
  """Yields each strand with its bases and log odds of codon positions, as it is read."""
  for strand, channels in _CODING.items():
    own = np.clip(logits[::strand, channels], -MAX_LOGIT, MAX_LOGIT)
    yield strand, codes if strand > 0 else reverse_complement(codes), own


def _weighed_frames(
  codes: UInt8[np.ndarray, "L"], logits: Float[np.ndarray, "L 3"], model: CodingModel
) -> list[tuple[int, int, float]]:
  """Returns start, end and log odds of the likely open reading frames of one strand."""
  frames = reading_frames(codes, logits, model, MIN_CODONS)
  scores = log_odds(model, frames.features)
  kept = scores > MIN_LOG_ODDS
  columns = (frames.start, frames.end, scores)
  return list(zip(*(column[kept].tolist() for column in columns), strict=True))


def _frames(
  codes: UInt8[np.ndarray, "L"], logits: Float[np.ndarray, "L 3"]
) -> list[tuple[int, int, float]]:
  """Returns start, end and score of the best gene of every open reading frame of one strand."""
  found, numbers = [], words(codes)
  for frame in range(3):
    n = (len(codes) - frame) // 3
    if n < MIN_CODONS:
      continue
    codons = numbers[frame : frame + 3 * n : 3]
    # Of codon k the log odds that its bases are the first, second and third of a codon.
    scores = np.stack([logits[frame + i : frame + i + 3 * n : 3, i][:n] for i in range(3)]).sum(0)
    stop = np.isin(codons, [word(codon) for codon in STOPS])
    prior = np.full(n, -np.inf)
    for codon, log_fraction in START_PRIORS.items():
      prior[codons == word(codon)] = log_fraction
    ends = np.flatnonzero(stop)
    if not len(ends):
      continue
    # Sum of the scores from codon k to the stop codon: total[end + 1] - total[k].
    total = np.concatenate([[0.0], np.cumsum(scores)])
    gain = prior[: ends[-1] + 1] - total[: ends[-1] + 1]
    firsts = np.concatenate([[0], ends[:-1] + 1])
    best = np.maximum.reduceat(gain, firsts) + total[ends + 1]
    for first, end, score in zip(firsts, ends, best, strict=True):
      if score >= MIN_SCORE:
        start = int(first) + int(np.argmax(gain[first : end + 1]))
        if end + 1 - start >= MIN_CODONS:
          found.append((frame + 3 * start, frame + 3 * (int(end) + 1), float(score)))
  return found


def _without_overlaps(candidates: list[CalledGene], length_bp: int) -> list[CalledGene]:
  """Keeps genes from the best to the worst that overlap those kept by little."""
  taken = np.zeros(length_bp, bool)
  kept = []
  for gene in sorted(candidates, key=lambda gene: (-gene.score, gene.start)):
    overlap = int(taken[gene.start : gene.end].sum())
    if overlap <= min(MAX_OVERLAP_BP, (gene.end - gene.start) // 3):
      taken[gene.start : gene.end] = True
      kept.append(gene)
  return sorted(kept, key=lambda gene: (gene.start, gene.end))
