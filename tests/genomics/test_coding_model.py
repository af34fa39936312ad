"""Evidence of genes: counts by hand, a planted motif, and the best start of a frame."""

import numpy as np
import pytest

from alphaecoli.evaluation.gene_fits import start_choices
from alphaecoli.genomics.coding_model import (
  FEATURES,
  SPACING_BP,
  UPSTREAM_BP,
  CodingModel,
  count,
  log_odds,
  reading_frames,
  word,
  words,
)
from alphaecoli.genomics.sequence import encode, reverse_complement

WEIGHTS = {"ATG": 0.0, "GTG": -2.0, "TTG": -3.0, "motif": 1.0, "codon_pairs": 0.3, "codons": 0.1}
CALL = {**dict.fromkeys(FEATURES, 0.0), "bias": -5.0, "codons": 0.5}


def model_of(counts) -> CodingModel:
  return CodingModel.of(counts, WEIGHTS, CALL)


def test_triplets_are_numbered_in_base_4_and_unknown_bases_have_none():
  assert words(encode("ACGTN")).tolist() == [word("ACG"), word("CGT"), -1, -1, -1]
  assert word("TTT") == 63 and word("AAC") == 1
  assert words(encode("AC")).tolist() == [-1, -1]


@pytest.mark.parametrize("strand", [1, -1])
def test_pairs_of_codons_are_counted_in_frame_on_the_strand_of_the_gene(strand):
  before = "ACGTACGTACGTACGTACGTACGTAC"
  text = before + "ATGAAACCCTAA" + "GGG"
  codes, (start, end) = encode(text), (26, 38)
  if strand < 0:
    codes = reverse_complement(codes)
    start, end = len(codes) - end, len(codes) - start
  found = count(codes, [(start, end, strand)])
  expected = np.zeros((64, 64), int)
  for a, b in (("ATG", "AAA"), ("AAA", "CCC"), ("CCC", "TAA")):
    expected[word(a), word(b)] = 1
  np.testing.assert_array_equal(found.coding, expected)
  assert found.background.sum() == 2 * (len(text) - 5)  # every frame of both strands
  assert found.genes == 1
  np.testing.assert_array_equal(found.upstream, encode(before[-UPSTREAM_BP:])[None])


def test_counts_add_up():
  codes = encode("A" * 30 + "ATGAAATAA")
  one = count(codes, [(30, 39, 1)])
  both = one + one
  assert both.genes == 2 and both.upstream.shape == (2, UPSTREAM_BP)
  np.testing.assert_array_equal(both.coding, 2 * one.coding)


@pytest.mark.parametrize("motif", ["AGGAGG", "GGAGGT", "TAAGGA"])
def test_a_motif_is_found_with_its_place(motif):
  rng = np.random.default_rng(0)
  upstream = rng.integers(0, 4, (400, UPSTREAM_BP)).astype(np.uint8)
  place = UPSTREAM_BP - 8 - len(motif)
  upstream[:300, place : place + len(motif)] = encode(motif)
  counts = count(encode("ACGT" * 20), [])._replace(upstream=upstream)
  model = model_of(counts)
  assert abs(int(model.spacing.argmax()) - place) <= 2  # part of the motif will do
  with_motif = model.motif_odds(np.append(upstream[0], encode("ATG")))[UPSTREAM_BP]
  without = model.motif_odds(np.append(upstream[-1], encode("ATG")))[UPSTREAM_BP]
  assert with_motif > 3 > without
  assert 0.5 < model.spacing.sum() < 1


def test_bases_too_near_the_start_of_the_sequence_say_nothing():
  model = model_of(count(encode("ACGT" * 20), []))
  assert (model.motif_odds(encode("ATG" * 4)) == 0).all()
  assert len(model.spacing) == UPSTREAM_BP - 6 - SPACING_BP + 1


def planted(seed: int = 3):
  """A frame with two starts; the second one, 10 codons on, has the motif before it."""
  rng = np.random.default_rng(seed)
  body = "".join(rng.choice(["GCC", "CTG", "GAA"], 60))
  text = "C" * 30 + "TAA" + "TTG" + body[:24] + "AGGAGG" + "GCCGCC" + "ATG" + body + "TGA" + "C" * 9
  return encode(text), 30 + 3 + 3 + 24 + 6 + 6


def test_the_best_start_of_a_frame_has_the_motif_and_the_likelier_codon():
  codes, start = planted()
  upstream = np.tile(codes[start - UPSTREAM_BP : start], (50, 1))
  counts = count(codes, [(start, len(codes) - 9, 1)])._replace(upstream=upstream)
  model = model_of(counts)
  logits = np.zeros((len(codes), 3))
  frames = reading_frames(codes, logits, model, 20)
  at = [i for i, end in enumerate(frames.end) if end == len(codes) - 9]
  assert [int(frames.start[i]) for i in at] == [start]
  (i,) = at
  by_name = dict(zip(FEATURES, frames.features[i], strict=True))
  assert by_name["codons"] == 62 and by_name["log_codons"] == pytest.approx(np.log(62))
  assert by_name["structure"] == 0
  assert by_name["codon_pairs_per_codon"] == pytest.approx(by_name["codon_pairs"] / 62)
  assert log_odds(model, frames.features)[i] == pytest.approx(0.5 * 62 - 5)


def test_choices_of_a_start_are_all_start_codons_up_to_the_stop_before():
  codes, start = planted()
  model = model_of(count(codes, [(start, len(codes) - 9, 1)]))
  features, chosen = start_choices(
    model, words(codes), model.motif_odds(codes), start, len(codes) - 9
  )
  ctg = [i for i, w in enumerate(words(codes)[33 : len(codes) - 9 : 3]) if w == word("ATG")]
  assert len(ctg) == 1 and chosen == 1
  assert features[0, 1] == 1 and features[1, :2].tolist() == [0, 0]  # TTG, then ATG
  assert features[1, 4] == 62 and features[0, 4] == 62 + 13
  assert (
    start_choices(model, words(codes), model.motif_odds(codes), start + 3, len(codes) - 9) is None
  )


def test_no_stop_codon_no_frame():
  codes = encode("ATG" + "GCC" * 50)
  model = model_of(count(codes, []))
  assert len(reading_frames(codes, np.zeros((len(codes), 3)), model, 20).start) == 0


def test_the_model_is_the_same_after_json_to_4_digits():
  codes, start = planted()
  model = model_of(count(codes, [(start, len(codes) - 9, 1)]))
  again = CodingModel.from_json(model.to_json())
  assert again.to_json() == model.to_json()
  np.testing.assert_allclose(again.codon_pairs, model.codon_pairs, atol=1e-4)
  assert CodingModel.from_json(None) is None


def test_triplets_are_numbered_base_by_base():
  codes = np.random.default_rng(5).integers(0, 5, 300).astype(np.uint8)
  for size in (0, 1, 2, 3, 300):
    expected = [
      word("".join("ACGT"[c] for c in codes[i : i + 3]))
      if i + 3 <= size and codes[i : i + 3].max() < 4
      else -1
      for i in range(size)
    ]
    assert words(codes[:size]).tolist() == expected


def test_pairs_of_the_other_strand_are_counted_from_this_one():
  codes = np.random.default_rng(6).integers(0, 5, 3000).astype(np.uint8)
  expected = np.zeros((64, 64), int)
  for strand in (codes, reverse_complement(codes)):
    numbers = words(strand)
    for a, b in zip(numbers[:-3], numbers[3:], strict=True):
      expected[a, b] += a >= 0 and b >= 0
  assert (count(codes, []).background == expected).all()


def test_genes_on_both_strands_and_past_the_end_are_counted():
  codes = np.random.default_rng(7).integers(0, 4, 999).astype(np.uint8)
  genes = [(30, 90, 1), (200, 260, -1), (969, 1029, 1), (600, 660, -1)]
  expected, twice = np.zeros((64, 64), int), np.append(codes, codes)
  for start, end, strand in genes:
    bases = twice[start:end] if strand > 0 else reverse_complement(twice[start:end])
    codons = words(bases)[::3]
    np.add.at(expected, (codons[:-1], codons[1:]), 1)
  found = count(codes, genes)
  assert found.genes == 4 and (found.coding == expected).all()
  assert found.upstream.tolist()[0] == codes[30 - UPSTREAM_BP : 30].tolist()
  assert len(found.upstream) == 4


def test_motifs_at_some_bases_are_those_at_all():
  codes, start = planted()
  model = model_of(count(codes, [(start, len(codes) - 9, 1)]))
  at = np.array([0, 23, 24, start, len(codes) - 1])
  assert (model.motif_odds(codes, at) == model.motif_odds(codes)[at]).all()
