"""What members have seen of any sequence: whole genomes, parts of either strand, repeats."""

import gzip

import numpy as np
import pytest

from alphaecoli.genomics.sequence import UNKNOWN, decode, reverse_complement
from alphaecoli.tracks.exposure import (
  Exposures,
  K,
  embedded_genomes,
  least_exposed,
  sample_kmers,
)
from alphaecoli.tracks.splits import HELD_OUT, SEEN, TRAIN, UNTOUCHED, hash_genome, split_regions

LENGTH, N_BLOCKS = 30_000, 6
RNG = np.random.default_rng(5)
GENOME = RNG.integers(0, 4, LENGTH).astype(np.uint8)
COPIES = (4_000, 17_000)  # of an element of 600 bp, in blocks 0 and 3
GENOME[COPIES[1] : COPIES[1] + 600] = GENOME[COPIES[0] : COPIES[0] + 600]


def metas(codes=GENOME, folds=(0, 1, 2), n_folds=3):
  """What checkpoints of these folds say of their training."""
  found = []
  for fold in folds:
    arcs = split_regions(len(codes), N_BLOCKS, n_folds, fold)[TRAIN]
    entry = {"genome_sha256": hash_genome(codes), "arcs": [list(arc) for arc in arcs]}
    data = {"n_blocks": N_BLOCKS, "n_folds": n_folds, "fold": fold}
    found.append({"trained_on": [entry], "config": {"data": data}})
  return found


@pytest.fixture(scope="module")
def known(tmp_path_factory):
  folder = tmp_path_factory.mktemp("genomes")
  text = f">toy\n{decode(GENOME)}\n".encode()
  (folder / "toy.fna.gz").write_bytes(gzip.compress(text))
  return Exposures(metas(), folder)


def expected(positions):
  """By the folds' definition: block i is validation of fold i mod 3, and test of the one before."""
  block = np.asarray(positions) % LENGTH * N_BLOCKS // LENGTH
  result = np.full((3, len(block)), SEEN)
  for fold in range(3):
    result[fold, block % 3 == fold] = HELD_OUT
    result[fold, block % 3 == (fold + 1) % 3] = UNTOUCHED
  return result


PLACES = np.arange(LENGTH)


@pytest.mark.parametrize(
  ("codes", "positions"),
  [
    (GENOME, PLACES),
    (np.roll(GENOME, -12_345), np.roll(PLACES, -12_345)),
    (reverse_complement(GENOME), PLACES[::-1]),
    (GENOME[3_000:9_000], PLACES[3_000:9_000]),
    (reverse_complement(GENOME[8_000:13_000]), PLACES[8_000:13_000][::-1]),
    (np.roll(GENOME, 500)[:2_000], np.roll(PLACES, 500)[:2_000]),
    (GENOME[COPIES[1] - 300 : COPIES[1] + 900], PLACES[COPIES[1] - 300 : COPIES[1] + 900]),
  ],
  ids=["whole", "rotated", "reverse", "piece", "piece-reverse", "over-the-origin", "copy-in-place"],
)
def test_each_base_is_found_at_its_place_from_either_strand(known, codes, positions):
  np.testing.assert_array_equal(known.of(np.ascontiguousarray(codes)), expected(positions))


def test_a_strain_with_snps_deletions_and_an_island_is_found_but_for_the_island(known):
  codes = GENOME[:20_000].copy()
  snps = RNG.choice(20_000, 400, replace=False)  # 98% identity
  codes[snps] = (codes[snps] + 1) % 4
  codes[9_000:9_040] = UNKNOWN
  island = RNG.integers(0, 4, 5_000).astype(np.uint8)
  strain = np.concatenate([codes[:6_000], codes[6_100:12_000], island, codes[12_000:]])
  places = np.concatenate([PLACES[:6_000], PLACES[6_100:12_000], PLACES[12_000:20_000]])
  found = known.of(strain)
  assert (found[:, 12_000:16_800] == UNTOUCHED).all()
  # Matches end at their last 32-mer but one without a SNP, some 100 bp off where these are many.
  same = np.delete(found, np.s_[11_900:16_900], axis=1) == expected(places)
  assert same[:, 400:11_500].all() and same[:, 12_300:-400].all()


def test_what_a_genome_has_twice_counts_as_seen_unless_its_flanks_tell(known):
  element = GENOME[COPIES[0] : COPIES[0] + 600]
  assert (known.of(element) == SEEN).mean() > 0.9
  alone = np.concatenate([RNG.integers(0, 4, 2_000).astype(np.uint8), element])
  assert (known.of(alone)[:, :1_900] == UNTOUCHED).all()
  assert (known.of(alone)[:, 2_050:2_550] == SEEN).all()


def test_other_sequences_short_ones_and_unknown_bases_are_untouched(known):
  others = RNG.integers(0, 4, 50_000), np.full(5_000, UNKNOWN), np.zeros(1), GENOME[: K - 1]
  for codes in others:
    assert (known.of(np.asarray(codes, np.uint8)) == UNTOUCHED).all()
  assert known.of(np.zeros(0, np.uint8)).shape == (3, 0)


def test_without_its_bases_a_genome_is_known_as_a_whole_alone():
  blind = Exposures(metas())
  np.testing.assert_array_equal(blind.of(GENOME), expected(PLACES))
  assert (blind.of(GENOME[:9_000]) == UNTOUCHED).all()


def test_a_member_of_another_genome_has_not_seen_this_one(tmp_path):
  other = RNG.integers(0, 4, 24_000).astype(np.uint8)
  for name, codes in (("a", GENOME), ("b", other)):
    (tmp_path / f"{name}.fna.gz").write_bytes(gzip.compress(f">x\n{decode(codes)}\n".encode()))
  known = Exposures([metas()[0], metas(other)[1]], tmp_path)
  found = known.of(np.concatenate([GENOME[:5_000], other[:4_000]]))
  assert (found[1, :5_000] == UNTOUCHED).all() and (found[0, 5_050:] == UNTOUCHED).all()
  np.testing.assert_array_equal(found[0, :5_000], expected(PLACES[:5_000])[0])
  # Fold 1 holds blocks 1 and 2 of 4,000 bp out; the other's first block it was trained on.
  assert (found[1, 5_000:] == SEEN).all()


def test_words_are_the_same_from_both_strands():
  places, hashes, forward = sample_kmers(GENOME)
  back, theirs, reverse = sample_kmers(reverse_complement(GENOME))
  assert len(places) == pytest.approx(LENGTH / 16, rel=0.15)
  np.testing.assert_array_equal(np.sort(LENGTH - K - back), places)
  np.testing.assert_array_equal(theirs[::-1], hashes)
  assert (reverse[::-1] != forward).all()


def test_of_the_least_exposed_the_first_are_chosen():
  exposures = np.array([[0, 2, 1, 0], [0, 2, 2, 1], [0, 2, 0, 1]], np.uint8)
  one, two = least_exposed(exposures, 1), least_exposed(exposures, 2)
  assert one.T.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]]
  assert two.T.tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1]]


def test_the_embedded_chromosome_is_k12s():
  (codes,) = embedded_genomes().values()
  assert len(codes) == 4_641_652  # NC_000913.3
