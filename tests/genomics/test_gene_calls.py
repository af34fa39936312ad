"""Genes called from sequence and log odds: planted genes are found, on both strands."""

import numpy as np
import pytest

from alphaecoli.genomics.gene_calls import MAX_LOGIT, MIN_CODONS, GeneCaller, call_genes
from alphaecoli.genomics.sequence import decode, encode, reverse_complement

STOPS = {"TAA", "TAG", "TGA"}


def coding(rng, codons: int, start: str = "ATG", stop: str = "TAA") -> str:
  """An open reading frame: no start codon but the first, no stop but the last."""
  body = []
  while len(body) < codons - 2:
    codon = "".join(rng.choice(list("ACGT"), 3))
    if codon not in STOPS | {"ATG", "GTG", "TTG"}:
      body.append(codon)
  return start + "".join(body) + stop


def planted(genes, length_bp: int = 6000, confidence: float = 3.0, seed: int = 0):
  """A random sequence with genes written into it, and log odds that know their codon positions."""
  rng = np.random.default_rng(seed)
  codes = rng.integers(0, 4, length_bp).astype(np.uint8)
  logits = np.full((length_bp, 8), -confidence)
  for start, strand, text in genes:
    part, at = encode(text), np.arange(start, start + len(text))
    codes[at] = part if strand > 0 else reverse_complement(part)
    position = np.arange(len(text)) % 3
    logits[at, position if strand > 0 else position[::-1] + 4] = confidence
  return codes, logits


@pytest.mark.parametrize("start", ["ATG", "GTG", "TTG"])
@pytest.mark.parametrize("strand", [1, -1])
def test_a_planted_gene_is_called_with_both_ends(strand, start):
  text = coding(np.random.default_rng(1), 120, start)
  codes, logits = planted([(1000, strand, text)])
  (found,) = call_genes(codes, logits)
  assert (found.start, found.end, found.strand) == (1000, 1000 + len(text), strand)
  called = decode(codes[found.start : found.end])
  assert (called if strand > 0 else decode(reverse_complement(encode(called)))) == text


def test_neighbours_and_small_overlaps_are_kept():
  rng = np.random.default_rng(2)
  first, second, third = (coding(rng, n) for n in (200, 150, 100))
  second_at = 500 + len(first) + 10
  codes, logits = planted(
    [(500, 1, first), (second_at, 1, second), (second_at + len(second) + 30, -1, third)]
  )
  found = [(g.start, g.strand) for g in call_genes(codes, logits)]
  assert found == [(500, 1), (second_at, 1), (second_at + len(second) + 30, -1)]


def test_noise_gives_no_gene():
  rng = np.random.default_rng(3)
  codes = rng.integers(0, 4, 30_000).astype(np.uint8)
  assert call_genes(codes, np.full((30_000, 8), -2.0)) == []


def test_a_frame_without_a_start_or_a_stop_is_no_gene():
  text = coding(np.random.default_rng(4), 100)
  codes, logits = planted([(0, 1, text[3:])], length_bp=len(text) - 3)
  assert call_genes(codes, logits) == []
  codes, logits = planted([(0, 1, text[:-3])], length_bp=len(text) - 3)
  assert call_genes(codes, logits) == []


def test_unknown_bases_end_no_frame_and_start_none():
  text = coding(np.random.default_rng(5), 100)
  codes, logits = planted([(300, 1, text)])
  codes[330:333] = 4
  (found,) = call_genes(codes, logits)
  assert (found.start, found.end) == (300, 300 + len(text))


def test_genes_shorter_than_the_shortest_are_not_called():
  text = coding(np.random.default_rng(6), MIN_CODONS - 1)
  codes, logits = planted([(600, 1, text)], confidence=6.0)
  assert all(g.start != 600 for g in call_genes(codes, logits))


@pytest.mark.parametrize("strand", [1, -1])
def test_a_circular_contig_has_no_ends(strand):
  rng = np.random.default_rng(8)
  genes = [(300, strand, coding(rng, 150)), (1200, -1, coding(rng, 60)), (2000, 1, coding(rng, 80))]
  codes, logits = planted(genes, length_bp=2600)
  expected = {(start, start + len(text), s) for start, s, text in genes}
  for shift in (0, -310, -500, -745, -2100, 900):
    found = call_genes(np.roll(codes, shift), np.roll(logits, shift, axis=0), circular=True)
    assert all(0 <= gene.start < 2600 for gene in found)
    starts = [(gene.start - shift) % 2600 for gene in found]
    calls = [(s, s + g.end - g.start, g.strand) for s, g in zip(starts, found, strict=True)]
    assert set(calls) == expected and len(calls) == 3
  linear = call_genes(np.roll(codes, -500), np.roll(logits, -500, axis=0))
  assert len(linear) == 2  # the gene that the ends cut is none


def test_rna_genes_are_long_regions_of_their_channel():
  structure = np.full((1000, 8), 0.1)
  structure[[*range(40), *range(960, 1000)], 3] = 0.9
  structure[300:349, 3] = 0.9  # too short
  structure[500:560, 7] = 0.6
  codes = np.zeros(1000, np.uint8)
  found = GeneCaller().call(codes, structure, circular=True)
  assert [(g.start, g.end, g.strand, g.rna) for g in found] == [
    (500, 560, -1, True),
    (960, 1040, 1, True),
  ]
  assert found[1].score == pytest.approx(80 * np.log(9))
  assert [(g.start, g.end) for g in GeneCaller().call(codes, structure, circular=False)] == [
    (500, 560)
  ]


def test_probabilities_of_0_and_1_count_as_the_largest_log_odds():
  text = coding(np.random.default_rng(9), 100)
  codes, logits = planted([(600, 1, text)])
  (found,) = GeneCaller().call(codes, (logits > 0).astype(np.float32), circular=False)
  assert (found.start, found.end, found.score) == (600, 900, 300 * MAX_LOGIT)


def test_reverse_complement_calls_the_same_genes():
  rng = np.random.default_rng(7)
  codes, logits = planted([(400, 1, coding(rng, 90)), (2000, -1, coding(rng, 140))])
  forward = {(g.start, g.end, g.strand) for g in call_genes(codes, logits)}
  swapped = logits[::-1][:, [4, 5, 6, 7, 0, 1, 2, 3]]
  n = len(codes)
  backward = call_genes(reverse_complement(codes), swapped)
  assert forward == {(n - g.end, n - g.start, -g.strand) for g in backward}
