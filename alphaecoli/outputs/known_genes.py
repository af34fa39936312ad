"""How unlike the genome of training genes and contigs are, and levels in words of known genes.

Only for models that were trained on the embedded genome alone, whose genes are in the package.
"""

import csv
import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from alphaecoli.genomics.gene_features import ContigGenes, codon_counts, frequencies
from alphaecoli.genomics.genes import Gene
from alphaecoli.genomics.sequence import UNKNOWN
from alphaecoli.tracks.exposure import EMBEDDED, embedded_genomes

LOGGER = logging.getLogger(__name__)

AS_ODD, GENES_AS_ODD = "as_odd_in_training", "genes_as_odd_in_training"
FEW = 0.1  # share of the training genome's genes from which down a gene counts as unlike them
_FOLDER = EMBEDDED / "ecoli_k12_mg1655"
_TRACK = "mean"  # the track of all data sets, whose levels the table has
_NEAREST = 400  # genes of training, nearest in length, that a gene is compared with
_RIDGE = 1e-6  # on variances of codon frequencies, which are 1e-5 to 1e-3
_LONGEST_BP, _SHORTEST_BP = 8192, 256  # of the windows that contigs are compared by
_MOST_WINDOWS = 1000  # of the training genome
# Candidates of the ladder. Global regulators: Martinez-Antonio and Collado-Vides 2003,
# doi:10.1016/j.mib.2003.09.002. MLST: Wirth et al. 2006, doi:10.1111/j.1365-2958.2006.05172.x.
CANDIDATES = (
  *("rpoD", "rpoE", "rpoH", "rpoN", "rpoS", "fecI", "fliA"),  # sigma factors
  *("arcA", "crp", "fis", "fnr", "hns", "ihfA", "ihfB", "lrp"),  # global regulators
  *("adk", "fumC", "gyrB", "icd", "mdh", "purA", "recA"),  # MLST
  *("lacI", "lacZ", "araC", "araB", "galK", "trpR", "trpE", "malT", "malE", "bglG"),  # textbook
  *("rplL", "rpsA", "tufA", "fusA", "gapA", "ompA", "ompC", "lpp"),  # abundant proteins
)
STEPS = 20

Row = dict[str, Any]


class Reference:
  """The genome of training, its protein-coding genes and their levels."""

  def __init__(
    self,
    codes: UInt8[np.ndarray, " L"],
    codons: Float64[np.ndarray, "G 64"],
    levels: Mapping[str, float],
  ):
    """Measures how far the genes lie from their mean.

    Args:
      codes: bases of the genome.
      codons: counts of its genes, at least one codon each.
      levels: observed ln(1 + TPM), by name of gene.
    """
    self._codes = codes
    use = frequencies(codons)
    self._mean = use.mean(axis=0)
    self._precision = np.linalg.inv(np.cov(use.T) + _RIDGE * np.eye(64))
    order = np.argsort(codons.sum(axis=1), kind="stable")
    self._lengths, self._distances = codons.sum(axis=1)[order], self._distance(use)[order]
    self._windows: dict[int, tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " n"]]] = {}
    self.ladder = choose_ladder(levels)

  @classmethod
  @functools.cache
  def embedded(cls) -> "Reference":
    """Reads the genome in the package and the table of its genes."""
    with (_FOLDER / "genes.tsv").open(newline="", encoding="utf-8") as file:
      rows = list(csv.DictReader(file, dialect="excel-tab"))
    (codes,) = embedded_genomes().values()
    genes = [
      Gene(r["name"], r["name"], "", int(r["start"]), int(r["end"]), int(r["strand"]), "gene")
      for r in rows
    ]
    levels = {r["name"]: float(r["log_tpm"]) for r in rows if r["log_tpm"]}
    return cls(codes, codon_counts(ContigGenes.of(genes, codes, circular=True)), levels)

  def _distance(self, use: Float64[np.ndarray, "G 64"]) -> Float64[np.ndarray, " G"]:
    """Returns Mahalanobis distances, squared, of codon frequencies from the mean."""
    away = use - self._mean
    return np.asarray(((away @ self._precision) * away).sum(axis=1))

  def genes_as_odd(self, codons: Float64[np.ndarray, "G 64"]) -> Float64[np.ndarray, " G"]:
    """Returns the share of genes of training, of about its length, at least as far as each gene.

    Few codons have odd frequencies by chance, so genes are compared with those nearest in length.

    Args:
      codons: counts of genes.

    Returns:
      Shares, 0 to 1; NaN of genes without codons.
    """
    length, most = codons.sum(axis=1), len(self._lengths)
    first = np.searchsorted(self._lengths, length) - _NEAREST // 2
    first = np.clip(first, 0, max(most - _NEAREST, 0))
    distances = self._distance(frequencies(codons))
    found = [
      (self._distances[i : i + _NEAREST] >= d).mean()
      for i, d in zip(first.tolist(), distances.tolist(), strict=True)
    ]
    return np.where(length > 0, np.array(found, np.float64), np.nan)

  def contig_as_odd(self, codes: UInt8[np.ndarray, " L"]) -> float | None:
    """Returns the share of windows of training at least as odd as the contig, by tetranucleotides.

    Windows have the largest power of two of bases, up to 8,192, that the contig has. The distance
    is Hellinger's from the mean of the training genome; the contig's is the median of its windows.
    None where the contig is shorter than 256 bp or hardly has a known base.
    """
    if len(codes) < _SHORTEST_BP:
      return None
    window = min(1 << (len(codes).bit_length() - 1), _LONGEST_BP)
    if window not in self._windows:
      own = tetranucleotides(self._codes, window, _MOST_WINDOWS)
      mean = own.mean(axis=0)
      self._windows[window] = mean, _hellinger(own, mean)
    mean, distances = self._windows[window]
    found = tetranucleotides(codes, window, -(-len(codes) // window))
    if not len(found):
      return None
    return float((distances >= np.median(_hellinger(found, mean))).mean())

  def between(self, low: float, high: float) -> str:
    """Returns the genes of the ladder next below and next above an interval of ln(1 + TPM).

    Where there is none on one side, "below" or "above" the other one; "" where on neither.
    """
    names, levels = list(self.ladder), list(self.ladder.values())
    below = int(np.searchsorted(levels, low, side="right")) - 1
    above = int(np.searchsorted(levels, high, side="left"))
    if below < 0 and above == len(names):
      return ""
    if below < 0:
      return f"below {names[above]}"
    if above == len(names):
      return f"above {names[below]}"
    return names[below] if below >= above else f"{names[below]} and {names[above]}"


def choose_ladder(levels: Mapping[str, float]) -> dict[str, float]:
  """Chooses known genes that stand for levels, lowest first.

  The range of the candidates' levels is cut into 20 equal steps; of each step, the candidate
  nearest its middle stays.
  """
  known = {name: levels[name] for name in CANDIDATES if name in levels}
  if not known:
    return {}
  low, high = min(known.values()), max(known.values())
  step = (high - low) / STEPS or 1.0
  best: dict[int, tuple[float, str]] = {}
  for name, level in known.items():
    number = min(int((level - low) / step), STEPS - 1)
    far = abs(level - low - (number + 0.5) * step)
    best[number] = min(best.get(number, (np.inf, "")), (far, name))
  return {name: known[name] for _, (_, name) in sorted(best.items())}


def tetranucleotides(
  codes: UInt8[np.ndarray, " L"], window_bp: int, most: int
) -> Float64[np.ndarray, "n 256"]:
  """Returns frequencies of four bases, over both strands, in windows spread over a sequence.

  Windows of which not half is known are left out.
  """
  a, b, c, d = (codes[i : len(codes) - 3 + i] for i in range(4))
  words = np.where((a | b | c | d) < UNKNOWN, ((a * 4 + b) * 4 + c) * 4 + d, np.int16(256))
  count = min(most, -(-len(codes) // window_bp))
  starts = np.linspace(0, len(codes) - window_bp, count).astype(np.int64)
  counts = np.array(
    [np.bincount(words[s : s + window_bp - 3], minlength=257)[:256] for s in starts]
  )
  counts = counts[counts.sum(axis=1) * 2 >= window_bp - 3] + 0.0
  both = counts + counts[:, _complements()]
  return both / both.sum(axis=1, keepdims=True)


@functools.cache
def _complements() -> Int64[np.ndarray, " 256"]:
  """Returns the number of the reverse complement of each four bases."""
  digits = np.stack(np.unravel_index(np.arange(256), (4,) * 4))
  return np.ravel_multi_index(tuple(3 - digits[::-1]), (4,) * 4).astype(np.int64)


def _hellinger(
  a: Float64[np.ndarray, "n 256"], b: Float64[np.ndarray, " 256"]
) -> Float64[np.ndarray, " n"]:
  """Returns Hellinger's distance of each row from one distribution."""
  return np.asarray(np.sqrt(((np.sqrt(a) - np.sqrt(b)) ** 2).sum(axis=1) / 2))


class KnownGeneColumns:
  """Adds to rows of `genes.tsv` how odd the genes are, their rank, and known genes of their level.

  Attributes:
    contigs: by label, how odd a contig and its median gene are; empty for other models.
  """

  def __init__(self, models: Iterable[Mapping[str, Any]]):
    """Starts a genome.

    Args:
      models: description of the model, or of each member of an ensemble.
    """
    self.contigs: dict[str, dict[str, float | None]] = {}
    self._reference = Reference.embedded() if all(map(_is_of_embedded, models)) else None
    self._bases: list[tuple[float, int]] = []

  def add(
    self,
    label: str,
    codes: UInt8[np.ndarray, " L"],
    codons: Float64[np.ndarray, "G 64"],
    rows: Sequence[Row],
  ) -> None:
    """Adds the columns of a contig's genes that need no other contig.

    Args:
      label: name of the contig in the outputs.
      codes: its bases.
      codons: counts of its genes.
      rows: rows of the same genes.
    """
    if self._reference is None:
      return
    odd = self._reference.genes_as_odd(codons)
    for row, share in zip(rows, odd.tolist(), strict=True):
      row[AS_ODD] = share
      if f"log_tpm:{_TRACK}" in row:
        row.update(self._levels(row))
    own = self._reference.contig_as_odd(codes)
    known = odd[~np.isnan(odd)]
    self.contigs[label] = {
      AS_ODD: own, GENES_AS_ODD: float(np.median(known)) if len(known) else None
    }  # fmt: skip
    if own is not None:
      self._bases.append((own, len(codes)))

  def _levels(self, row: Row) -> Row:
    """Returns the known genes between which a level lies, and those of its interval."""
    assert self._reference is not None
    level, spread = _level(row, _TRACK), row.get(f"log_tpm_spread:{_TRACK}")
    known = not np.isnan(level)
    found = {"between": self._reference.between(level, level) if known else ""}
    if spread is not None:
      ends = level - spread, level + spread
      known = not np.isnan(ends).any()
      found["between_spread"] = self._reference.between(*ends) if known else ""
    return found

  def finish(self, name: str, rows: Sequence[Row]) -> None:
    """Ranks the genes of the genome, and says once how odd they are."""
    levels = mean_levels(rows)
    if not np.isnan(levels).all():
      order = np.argsort(np.argsort(-levels, kind="stable")) + 1  # NaN comes last
      for row, rank, level in zip(rows, order.tolist(), levels.tolist(), strict=True):
        row["expression_rank"] = None if np.isnan(level) else rank
    if self._reference is not None:
      self._say(name, rows)

  def _say(self, name: str, rows: Sequence[Row]) -> None:
    """Logs the medians; warns where most genes, or without genes most bases, are odd."""
    odd = [row[AS_ODD] for row in rows if not np.isnan(row[AS_ODD])]
    bases = sum(bp for _, bp in self._bases)
    few = sum(bp for share, bp in self._bases if share < FEW)
    parts = []
    if odd:
      parts.append(f"{np.median(odd):.0%} of the genes (codon use)")
    if bases:
      share = sum(share * bp for share, bp in self._bases) / bases
      parts.append(f"{share:.0%} of the windows (four-letter words)")
    if parts:
      text = "%s: of E. coli K-12, the training genome, %s are as odd as here; ordinary is 50%%"
      LOGGER.info(text, name, " and ".join(parts))
    if odd:
      part, what = sum(share < FEW for share in odd) / len(odd), "genes"
    else:
      part, what = few / bases if bases else 0.0, "bases"
    if part > 0.5:
      LOGGER.warning(
        "%s is unlike E. coli K-12, the training genome: %.0f%% of its %s are odder than 90%% of "
        "those of K-12: trust levels and operons less (column %s)",
        name, 100 * part, what, AS_ODD,
      )  # fmt: skip


def _is_of_embedded(model: Mapping[str, Any]) -> bool:
  """Tells whether a model was trained on the embedded data alone."""
  data = model.get("config", {}).get("data", {})
  embedded = data.get("dump") == data.get("genome") == "builtin"
  return embedded and not data["stores"]


def mean_levels(rows: Sequence[Mapping[str, Any]]) -> Float64[np.ndarray, " G"]:
  """Returns the better predicted ln(1 + TPM) of genes, the mean over tracks; NaN without tracks."""
  names = [name for name in (rows[0] if rows else ()) if name.startswith("log_tpm:")]
  tracks = [name.partition(":")[2] for name in names]
  levels = [[_level(row, track) for track in tracks] for row in rows if tracks]
  return np.array(levels, np.float64).mean(axis=1) if levels else np.full(len(rows), np.nan)


def _level(row: Mapping[str, Any], track: str) -> float:
  """Returns the better predicted ln(1 + TPM) of a gene."""
  return float(row.get(f"log_tpm_annotated:{track}", row[f"log_tpm:{track}"]))
