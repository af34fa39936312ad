import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphaecoli.data.windows import count_starts, nth_start, tile_windows
from alphaecoli.errors import ConfigError
from alphaecoli.tracks.splits import (
  HELD_OUT,
  SEEN,
  SPLITS,
  TRAIN,
  UNTOUCHED,
  VALIDATION,
  Region,
  configured_regions,
  exposure,
  hash_genome,
  split_of,
  split_regions,
  total_bp,
)

E_COLI_BP = 4_641_652


def labels_of(length_bp, n_blocks, n_folds, fold):
  """The split of every base, block by block as the specification puts it."""
  labels = np.empty(length_bp, "U10")
  for block in range(n_blocks):
    a, b = round(block * length_bp / n_blocks), round((block + 1) * length_bp / n_blocks)
    validates, tests = block % n_folds == fold, block % n_folds == (fold + 1) % n_folds
    labels[a:b] = "validation" if validates else "test" if tests else "train"
  return labels


@st.composite
def layouts(draw):
  n_folds = draw(st.integers(3, 7))
  n_blocks = draw(st.integers(n_folds, 23))
  length_bp = draw(st.integers(n_blocks, 700))
  return length_bp, n_blocks, n_folds, draw(st.integers(0, n_folds - 1))


@given(layouts(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_arcs_hold_every_base_once_with_its_label(layout, circular):
  length_bp, labels = layout[0], labels_of(*layout)
  regions = split_regions(*layout, circular)
  bases = [np.arange(*region) for split in SPLITS for region in regions[split]]
  assert sorted(np.concatenate(bases) % length_bp) == list(range(length_bp))
  for split in SPLITS:
    for region in regions[split]:
      assert 0 <= region.start < length_bp and region.start < region.end <= region.start + length_bp
      assert circular or region.end <= length_bp
      assert (labels[np.arange(*region) % length_bp] == split).all()


@given(layouts(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_neighbouring_blocks_of_a_split_are_one_arc(layout, circular):
  length_bp = layout[0]
  for regions in split_regions(*layout, circular).values():
    starts, ends = {a.start for a in regions}, {a.end % length_bp for a in regions}
    assert not (starts - {0}) & ends
    assert not (circular and 0 in starts & ends)


@given(layouts(), st.booleans(), st.integers(1, 80))
@settings(max_examples=60, deadline=None)
def test_no_window_of_a_split_holds_a_base_of_another(layout, circular, window_bp):
  length_bp, labels = layout[0], labels_of(*layout)
  for split, regions in split_regions(*layout, circular).items():
    starts = [
      nth_start(i, regions, window_bp, length_bp) for i in range(count_starts(regions, window_bp))
    ]
    if regions and min(a.length_bp for a in regions) >= window_bp:
      starts += [tile.start for tile in tile_windows(regions, window_bp, length_bp)]
    for start in starts:
      assert (labels[np.arange(start, start + window_bp) % length_bp] == split).all()


def test_default_split_of_the_e_coli_chromosome():
  regions = split_regions(E_COLI_BP, 20, 10, 0)
  assert regions["validation"] == (Region(0, 232083), Region(2320826, 2552909))
  assert regions["test"] == (Region(232083, 464165), Region(2552909, 2784991))
  assert regions["train"] == (Region(464165, 2320826), Region(2784991, E_COLI_BP))


def test_an_arc_may_pass_the_origin_of_a_circle_only():
  assert split_regions(100, 10, 5, 2)["train"] == (Region(40, 70), Region(90, 120))
  assert split_regions(100, 10, 5, 2, circular=False)["train"] == (
    Region(0, 20), Region(40, 70), Region(90, 100),
  )  # fmt: skip


@given(layouts(), st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None)
def test_an_offset_turns_the_blocks_of_a_circle_and_no_others(layout, block_offset):
  length_bp, n_blocks = layout[:2]
  first = round(block_offset * length_bp / n_blocks)
  labels = np.roll(labels_of(*layout), first)  # the first block starts there
  regions = split_regions(*layout, True, block_offset)
  bases = [np.arange(*region) for split in SPLITS for region in regions[split]]
  assert sorted(np.concatenate(bases) % length_bp) == list(range(length_bp))
  for split in SPLITS:
    assert list(regions[split]) == sorted(regions[split])
    for region in regions[split]:
      assert 0 <= region.start < length_bp and region.start < region.end <= region.start + length_bp
      assert (labels[np.arange(*region) % length_bp] == split).all()
  assert split_regions(*layout, False, block_offset) == split_regions(*layout, False)


def test_half_a_block_puts_the_origin_into_the_middle_of_the_last_one():
  regions = split_regions(100, 10, 5, 4, True, 0.5)
  assert regions["validation"] == (Region(45, 55), Region(95, 105))
  assert regions["test"] == (Region(5, 15), Region(55, 65))


def test_configurations_of_earlier_versions_divide_as_they_did():
  data = {"n_blocks": 20, "n_folds": 10, "fold": 3}
  assert configured_regions(data, E_COLI_BP, True) == split_regions(E_COLI_BP, 20, 10, 3)
  moved = configured_regions({**data, "block_offset": 0.5}, E_COLI_BP, True, fold=9)
  assert moved == split_regions(E_COLI_BP, 20, 10, 9, True, 0.5)
  assert moved[VALIDATION][1].end > E_COLI_BP  # block 19 holds the origin


@pytest.mark.parametrize(
  ("start", "end", "split"),
  [
    (40, 70, "train"),
    (95, 115, "train"),
    (19, 20, "train"),
    (19, 21, "border"),
    (20, 30, "validation"),
    (29, 31, "border"),
    (30, 40, "test"),
    (0, 100, "border"),
  ],
)
def test_a_gene_belongs_to_the_split_that_holds_all_of_it(start, end, split):
  assert split_of(start, end, split_regions(100, 10, 5, 2), 100) == split


@given(layouts(), st.integers(0, 699), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_split_of_agrees_with_the_labels_of_the_bases(layout, start, length):
  length_bp = layout[0]
  start, length = start % length_bp, min(length, length_bp)
  found = split_of(start, start + length, split_regions(*layout), length_bp)
  inside = set(labels_of(*layout)[np.arange(start, start + length) % length_bp])
  assert found == (inside.pop() if len(inside) == 1 else "border")


@given(layouts(), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_tiles_cover_every_base_once_in_order(layout, window_bp):
  length_bp = layout[0]
  regions = split_regions(*layout)["train"]
  if min(a.length_bp for a in regions) < window_bp:
    with pytest.raises(ConfigError, match="the shortest region of the split"):
      tile_windows(regions, window_bp, length_bp)
    return
  covered = []
  for tile in tile_windows(regions, window_bp, length_bp):
    assert 0 <= tile.first_new_bp < window_bp
    covered += range(tile.start + tile.first_new_bp, tile.start + window_bp)
  expected = np.concatenate([np.arange(*region) for region in regions]) % length_bp
  np.testing.assert_array_equal(np.array(covered) % length_bp, expected)
  assert len(covered) == total_bp(regions)


def test_exposure_tells_trained_held_out_and_test_bases_apart():
  codes = np.arange(90, dtype=np.uint8) % 4
  regions = split_regions(90, 9, 3, 0)
  arcs = [list(region) for region in regions[TRAIN]]
  entry = {"genome_sha256": hash_genome(codes), "arcs": arcs}
  data = {"n_blocks": 9, "n_folds": 3, "fold": 0}
  expected = np.repeat([HELD_OUT, UNTOUCHED, SEEN] * 3, 10)
  np.testing.assert_array_equal(exposure([entry], data, codes), expected)
  moved = {**data, "block_offset": 0.5}
  turned = [list(region) for region in split_regions(90, 9, 3, 0, True, 0.5)[TRAIN]]
  found = exposure([{**entry, "arcs": turned}], moved, codes)
  np.testing.assert_array_equal(found, np.roll(expected, 5))
  # Another division than the configuration's: which bases tested the run is unknown.
  unknown = np.where(expected == SEEN, SEEN, HELD_OUT)
  np.testing.assert_array_equal(exposure([entry], {**data, "fold": 1}, codes), unknown)
  passing_origin = {**entry, "arcs": [[80, 95]]}
  seen = exposure([entry, passing_origin], data, codes) == SEEN
  np.testing.assert_array_equal(seen, (expected == SEEN) | (np.arange(90) < 5))
  assert (exposure([entry], data, codes[::-1].copy()) == UNTOUCHED).all()
