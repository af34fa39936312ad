from collections import Counter

import pytest
from scipy import stats

from alphaecoli.data.windows import check_training_regions, draw_window, tile_windows
from alphaecoli.errors import ConfigError
from alphaecoli.tracks.splits import Region

ARCS = (Region(10, 30), Region(50, 55), Region(90, 115))  # the last passes the origin of 100
WINDOW_BP = 18


def draws(n, seed=3, reverse_complement=0.5):
  return [draw_window(seed, i, ARCS, WINDOW_BP, 100, reverse_complement) for i in range(n)]


def test_starts_are_uniform_over_all_windows_within_the_regions():
  n = 4000
  seen = Counter(draw.start for draw in draws(n))
  assert set(seen) == {10, 11, 12, 90, 91, 92, 93, 94, 95, 96, 97}
  assert stats.chisquare(list(seen.values())).pvalue > 1e-3


def test_start_and_strand_are_independent():
  table = Counter((draw.start, draw.reverse) for draw in draws(4000))
  starts = sorted({start for start, _ in table})
  rows = [[table[s, False], table[s, True]] for s in starts]
  assert stats.chi2_contingency(rows).pvalue > 1e-3


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0), (1.0, 1), (0.25, 0.25)])
def test_share_of_reverse_complements_is_the_probability(probability, share):
  reverse = [draw.reverse for draw in draws(2000, reverse_complement=probability)]
  assert abs(sum(reverse) / 2000 - share) < 0.04 * (0 < share < 1) + 1e-12


def test_a_draw_is_a_pure_function_of_seed_and_index():
  assert draws(20) == draws(20)
  assert draws(20) != draws(20, seed=4)


def test_draws_stay_as_they_were():
  """Golden: a change gives resumed runs other windows; update it with a line in the changelog."""
  regions = (Region(464_165, 2_320_826), Region(2_784_991, 4_641_652))
  found = [tuple(draw_window(0, i, regions, 98_304, 4_641_652, 0.5)) for i in (0, 1, 2**33)]
  assert found == [(504_771, True), (1_209_214, True), (1_701_487, False)]


def test_training_needs_one_arc_that_holds_a_window():
  check_training_regions((Region(0, 3000), Region(5000, 9100)), 4096)
  with pytest.raises(ConfigError, match=r"data\.window_bp=6144 .*\(4100 bp\); at most 4096 fits"):
    check_training_regions((Region(0, 3000), Region(5000, 9100)), 6144)
  with pytest.raises(ConfigError, match=r"\(900 bp\); use fewer data\.n_blocks"):
    check_training_regions((Region(100, 1000),), 2048)


def test_evaluation_needs_every_arc_to_hold_a_window():
  with pytest.raises(ConfigError, match=r"data\.window_bp=4096 .*\(3000 bp\); at most 2048 fits"):
    tile_windows((Region(0, 3000), Region(5000, 9100)), 4096, 10_000)


def test_the_last_tile_overlaps_the_one_before():
  tiles = tile_windows((Region(90, 115), Region(30, 50)), 10, 100)
  assert tiles == [(90, 0), (0, 0), (5, 5), (30, 0), (40, 0)]
