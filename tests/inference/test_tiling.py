import itertools

import numpy as np
import pytest

from alphaecoli.errors import ConfigError
from alphaecoli.inference.tiling import (
  check_margin,
  default_margin,
  n_bins,
  plan_tiles,
  stretch_length,
  tile_codes,
  tile_length,
)
from tests.inference.standin import random_codes

WINDOW = 2048
LENGTHS = [1, 127, 128, 129, 1000, 1920, 1921, 2047, 2048, 2049, 3000, 4096, 10_000, 12_345]


@pytest.mark.parametrize("circular", [False, True], ids=["linear", "circular"])
@pytest.mark.parametrize("margin", [0, 128, 512, 896])
@pytest.mark.parametrize("length", LENGTHS)
def test_kept_parts_cover_every_bin_once_and_lie_in_their_windows(length, margin, circular):
  tiles = plan_tiles(length, window_bp=WINDOW, margin_bp=margin, circular=circular)
  assert tiles[0].start == 0 and tiles[-1].end == n_bins(length) * 128
  for before, after in itertools.pairwise(tiles):
    assert before.end == after.start
  for tile in tiles:
    assert tile.start < tile.end
    assert tile.window_start <= tile.start and tile.end <= tile.window_start + WINDOW
    assert tile.window_start % 128 == 0 and tile.start % 128 == 0


@pytest.mark.parametrize("length", LENGTHS)
def test_ring_has_the_margin_around_every_kept_base(length):
  for tile in plan_tiles(length, window_bp=WINDOW, margin_bp=512, circular=True):
    assert tile.start - tile.window_start >= 512
    assert tile.window_start + WINDOW - tile.end >= 512


@pytest.mark.parametrize("length", [n for n in LENGTHS if n > WINDOW])
def test_linear_contig_has_the_margin_except_at_its_true_ends_and_no_padding(length):
  padded = n_bins(length) * 128
  for tile in plan_tiles(length, window_bp=WINDOW, margin_bp=512, circular=False):
    assert 0 <= tile.window_start <= padded - WINDOW
    assert tile.start - tile.window_start >= 512 or tile.window_start == 0
    assert tile.window_start + WINDOW - tile.end >= 512 or tile.window_start == padded - WINDOW


def test_sequence_of_one_window_is_one_window():
  assert plan_tiles(WINDOW, window_bp=WINDOW, margin_bp=512, circular=False) == [(0, 0, WINDOW)]


def test_tiles_by_hand():
  tiles = plan_tiles(5000, window_bp=2048, margin_bp=512, circular=False)
  assert tiles == [(0, 0, 1536), (1024, 1536, 2560), (2048, 2560, 3584), (3072, 3584, 5120)]
  tiles = plan_tiles(2100, window_bp=2048, margin_bp=512, circular=True)
  assert tiles == [(-512, 0, 1024), (512, 1024, 2048), (1536, 2048, 2176)]


@pytest.mark.parametrize("length", [1, 5, 300, 2048, 5000])
@pytest.mark.parametrize("start", [-2100, -7, 0, 3, 4800])
def test_ring_is_read_as_the_repeated_chromosome(length, start):
  codes = random_codes(length)
  tile = (start, 0, 128)
  window = tile_codes(codes, plan(*tile), WINDOW, circular=True)
  expected = [codes[(start + i) % length] for i in range(WINDOW)]
  assert np.array_equal(window, expected)


@pytest.mark.parametrize("start", [-3000, -2048, -100, 0, 250, 400, 5000])
def test_linear_contig_is_padded_with_unknown_bases(start):
  codes = random_codes(300)
  window = tile_codes(codes, plan(start, 0, 128), WINDOW, circular=False)
  expected = [codes[start + i] if 0 <= start + i < 300 else 4 for i in range(WINDOW)]
  assert np.array_equal(window, expected)


def plan(*tile):
  from alphaecoli.inference.tiling import Tile

  return Tile(*tile)


@pytest.mark.parametrize("window", [2048, 6144, 16_384, 98_304, 131_072])
@pytest.mark.parametrize("share", [0, 2, 3, 4, 6, 7])
def test_windows_fill_a_stretch_of_about_four(window, share):
  margin = window * share // 16 // 128 * 128
  kept = window - 2 * margin
  tiles = plan_tiles(
    stretch_length(window, margin), window_bp=window, margin_bp=margin, circular=False
  )
  assert [tile.window_start for tile in tiles] == [kept * i for i in range(len(tiles))]
  assert 4 * window - kept < stretch_length(window, margin) <= 4 * window


def test_stretches_where_contig_and_window_allow_them():
  assert stretch_length(16_384, 4096) == 65_536  # 7 windows, 8,192 bp apart
  assert stretch_length(16_384, 2048) == 65_536 and stretch_length(98_304, 24_576) == 393_216
  assert tile_length(65_535, 16_384, 4096) == 16_384
  assert tile_length(65_536, 16_384, 4096) == 65_536
  assert stretch_length(16_384, 8064) == 16_384 + 31 * 256  # 32 windows
  assert stretch_length(262_144, 65_536) == tile_length(10**7, 262_144, 65_536) == 262_144


@pytest.mark.parametrize("margin", [-128, 100, 1024, 4096])
def test_impossible_margin_is_refused_with_the_range(margin):
  with pytest.raises(ConfigError, match="0 to 896"):
    check_margin(margin, WINDOW)


@pytest.mark.parametrize("window", [2048, 6144, 98_304])
def test_default_margin_is_allowed_for_every_window(window):
  check_margin(default_margin(window), window)
