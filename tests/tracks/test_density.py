import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alphaecoli.genomics.intervals import merge, split_at_origin
from alphaecoli.tracks.gene_targets import DensityIndex, mean_of_genes

BIN_BP = 128


def bases_of(spans, length_bp):
  """Bases of a gene on the circle."""
  return {p % length_bp for a, b in spans for p in range(a, b)}


def counts_by_bases(genes, start, n_bins, length_bp):
  """Density, one bin, gene and base at a time."""
  bases = [bases_of(spans, length_bp) for spans in genes]
  counts = []
  for first in range(start, start + n_bins * BIN_BP, BIN_BP):
    held = {p % length_bp for p in range(first, first + BIN_BP)}
    counts.append(sum(bool(held & gene) for gene in bases))
  return counts


@st.composite
def circles(draw):
  """A circle, genes on it (some interrupted, some across the origin) and a window."""
  length_bp = draw(st.integers(300, 700))
  genes = []
  for _ in range(draw(st.integers(0, 8))):
    start = draw(st.integers(0, length_bp - 1))
    sizes = draw(st.lists(st.integers(1, 200), min_size=1, max_size=5))
    spans, at = [], start
    for i, size in enumerate(sizes):
      if i % 2 == 0 and at + size <= start + length_bp - BIN_BP:
        spans.append((at, at + size))
      at += size
    genes.append(spans or [(start, start + 1)])
  start = draw(st.integers(0, length_bp - 1))
  return length_bp, genes, start, draw(st.integers(1, length_bp // BIN_BP))


@given(circles())
@settings(max_examples=60, deadline=None)
@example((1000, [[(0, 1)], [(127, 129)], [(900, 1000)], [(990, 1010)]], 872, 3))
@example((1000, [[(100, 101), (228, 229)], [(100, 101), (227, 228)]], 101, 2))
def test_density_at_any_phase_counts_genes_base_by_base(circle):
  length_bp, genes, start, n_bins = circle
  index = DensityIndex.of_genes(genes, length_bp, True)
  expected = counts_by_bases(genes, start, n_bins, length_bp)
  np.testing.assert_array_equal(index.counts(start, n_bins), np.float32(expected))


def test_a_gene_whose_fragments_share_a_bin_counts_once_there():
  index = DensityIndex.of_genes([[(10, 20), (30, 40), (300, 310)]], 1024, True)
  np.testing.assert_array_equal(index.counts(0, 4), [1, 0, 1, 0])


def test_density_of_a_linear_chromosome_does_not_go_round():
  index = DensityIndex.of_genes([[(0, 10)], [(1000, 1024)]], 1024, False)
  np.testing.assert_array_equal(index.counts(0, 8), [1, 0, 0, 0, 0, 0, 0, 1])


@pytest.mark.parametrize(
  ("spans", "gap", "expected"),
  [
    ([(5, 9), (0, 5)], 0, [(0, 9)]),
    ([(0, 5), (6, 9)], 0, [(0, 5), (6, 9)]),
    ([(0, 5), (6, 9)], 1, [(0, 9)]),
    ([(0, 20), (3, 4), (30, 31)], 0, [(0, 20), (30, 31)]),
    ([], 0, []),
  ],
)
def test_merge_joins_what_is_close_enough(spans, gap, expected):
  assert merge(spans, gap) == expected


def test_intervals_are_split_at_the_origin():
  assert split_at_origin([(3, 8), (90, 100), (95, 107), (103, 108)], 100) == [
    (3, 8), (90, 100), (95, 100), (0, 7), (3, 8),
  ]  # fmt: skip


@given(circles(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_a_base_has_the_mean_of_the_genes_over_it(circle, random):
  length_bp, genes, start, n_bins = circle
  values = np.array(
    [[random.choice([np.nan, 1.5, -2.0, 0.0]) for _ in range(2)] for _ in genes]
  ).reshape(-1, 2)
  pieces = mean_of_genes(genes, values, length_bp)
  bases = [bases_of(spans, length_bp) for spans in genes]
  expected = np.full((length_bp, 2), np.nan, np.float32)
  for base in range(length_bp):
    over = values[[i for i, gene in enumerate(bases) if base in gene]]
    for track in range(2):
      found = over[~np.isnan(over[:, track]), track]
      if found.size:
        expected[base, track] = np.mean(found)
  np.testing.assert_array_equal(pieces.dense(0, length_bp), expected)
  end = min(start + n_bins * BIN_BP, length_bp)
  np.testing.assert_array_equal(pieces.dense(start, end), expected[start:end])
