"""Batches: pure in (seed, step), the same for any threads and processes, every base once."""

import itertools
import subprocess
import sys
import threading

import grain
import numpy as np
import pytest

from alphaecoli.data.pipeline import evaluation_batches, training_batches
from alphaecoli.errors import ConfigError
from alphaecoli.tracks.splits import total_bp
from tests.stores import random_store

WINDOW_BP = 2048
TRAINING = {"window_bp": WINDOW_BP, "batch_windows": 4, "seed": 7}


def take(n, batches):
  with batches:
    return list(itertools.islice(batches, n))


def assert_same(found, expected):
  assert len(found) == len(expected)
  for a, b in zip(found, expected, strict=True):
    assert a.keys() == b.keys()
    for key, value in b.items():
      assert a[key].dtype == value.dtype
      np.testing.assert_array_equal(a[key], value, err_msg=key)


def joined(parts):
  """Global batches from those of every process, in order of process."""
  return [
    {key: np.concatenate([part[key] for part in step]) for key in step[0]}
    for step in zip(*parts, strict=True)
  ]


@pytest.fixture(scope="module")
def six_steps(toy_store):
  return take(6, training_batches(toy_store, **TRAINING, threads=0))


def test_a_training_batch_holds_the_windows_it_names(toy_store, six_steps):
  for batch in six_steps:
    for row in range(4):
      window = toy_store.window(int(batch["start"][row]), WINDOW_BP, bool(batch["reverse"][row]))
      assert_same([{key: value[row] for key, value in batch.items()}], [window])
  assert len({int(s) for batch in six_steps for s in batch["start"]}) > 20
  assert {bool(r) for batch in six_steps for r in batch["reverse"]} == {True, False}


def test_training_windows_lie_within_the_training_regions(toy_store):
  regions = toy_store.regions("train")
  for batch in take(100, training_batches(toy_store, **TRAINING)):
    for start in batch["start"]:
      assert any(
        region.offset(int(start), int(start) + WINDOW_BP, toy_store.length_bp) is not None
        for region in regions
      )


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("prefetch", [1, 40])
def test_threads_and_prefetch_change_nothing(toy_store, six_steps, threads, prefetch):
  batches = training_batches(toy_store, **TRAINING, threads=threads, prefetch=prefetch)
  assert_same(take(6, batches), six_steps)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_global_batch_is_the_same_for_any_number_of_processes(toy_store, six_steps, processes):
  parts = [
    take(6, training_batches(toy_store, **TRAINING, process_index=p, process_count=processes))
    for p in range(processes)
  ]
  assert_same(joined(parts), six_steps)


@pytest.mark.parametrize("first", [1, 4])
def test_starting_at_a_step_equals_skipping_to_it(toy_store, six_steps, first):
  batches = training_batches(toy_store, **TRAINING, first_step=first)
  assert batches.state == first
  assert_same(take(6 - first, batches), six_steps[first:])
  assert batches.state == 6


def test_the_state_does_not_count_what_is_only_prefetched(toy_store, six_steps):
  with training_batches(toy_store, **TRAINING, threads=2, prefetch=40) as batches:
    for _ in range(3):
      next(batches)
    state = batches.state
  assert_same(take(1, training_batches(toy_store, **TRAINING, first_step=state)), six_steps[3:4])


def test_seeds_give_different_streams(toy_store, six_steps):
  other = take(1, training_batches(toy_store, **{**TRAINING, "seed": 8}))[0]
  assert (other["start"] != six_steps[0]["start"]).any()


@pytest.mark.parametrize(("probability", "expected"), [(0.0, False), (1.0, True)])
def test_reverse_complements_can_be_switched_off(toy_store, probability, expected):
  batches = training_batches(toy_store, **TRAINING, reverse_complement=probability)
  assert all((batch["reverse"] == expected).all() for batch in take(5, batches))


def counted(store, split, parts):
  """How often each base and each target is known, and the bins that are."""
  bases = np.zeros(store.length_bp, int)
  bins = []
  for batch in itertools.chain(*parts):
    assert not batch["reverse"].any()
    for start, known, bin_known in zip(
      batch["start"], batch["operon_membership_known"], batch["gene_density_known"], strict=True
    ):
      np.add.at(bases, np.arange(start, start + WINDOW_BP) % store.length_bp, known[:, 0])
      bins += [(int(start) + 128 * int(i)) for i in np.flatnonzero(bin_known)]
      expected = known[:, 0].reshape(-1, 128).all(axis=1)
      np.testing.assert_array_equal(bin_known[:, 0], expected)
  return bases, bins


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize(("batch_windows", "processes"), [(1, 1), (4, 1), (6, 2), (6, 3)])
def test_evaluation_counts_every_base_of_the_arcs_once(toy_store, split, batch_windows, processes):
  settings = {"window_bp": WINDOW_BP, "batch_windows": batch_windows, "process_count": processes}
  parts = [
    list(evaluation_batches(toy_store, split, **settings, process_index=p))
    for p in range(processes)
  ]
  assert len({len(part) for part in parts}) == 1
  shapes = {batch["sequence"].shape for part in parts for batch in part}
  assert shapes == {(batch_windows // processes, WINDOW_BP)}
  bases, bins = counted(toy_store, split, parts)
  expected = np.zeros(toy_store.length_bp, int)
  for region in toy_store.regions(split):
    expected[np.arange(*region) % toy_store.length_bp] = 1
  np.testing.assert_array_equal(bases, expected)
  assert len(bins) == len(set(bins))
  assert (
    len(bins) * 128
    <= total_bp(toy_store.regions(split))
    < len(bins) * 128 + 128 * 2 * len(toy_store.regions(split))
  )


def test_evaluation_knows_nothing_of_padding_rows(toy_store):
  batches = evaluation_batches(toy_store, "test", window_bp=WINDOW_BP, batch_windows=50)
  (batch,) = list(batches)
  n_tiles = sum(-(-region.length_bp // WINDOW_BP) for region in toy_store.regions("test"))
  for key in ("gene_expression_known", "gene_density_known", "operon_membership_known"):
    assert batch[key][:n_tiles].any(axis=(1, 2)).all()
    assert not batch[key][n_tiles:].any()
  assert np.isfinite(batch["gene_expression"]).all()


def test_evaluation_length_is_the_number_of_batches(toy_store):
  batches = evaluation_batches(toy_store, "test", window_bp=WINDOW_BP, batch_windows=4)
  assert len(batches) == len(list(batches))
  assert len(batches) == 0


def test_arcs_across_the_origin_are_covered(tmp_path):
  store = random_store(tmp_path, length_bp=61_000, fold=2, n_blocks=21)
  assert any(region.end > store.length_bp for region in store.regions("train"))
  bases, _ = counted(
    store, "train", [evaluation_batches(store, "train", window_bp=WINDOW_BP, batch_windows=4)]
  )
  assert bases.max() == 1 and bases.sum() == total_bp(store.regions("train"))


def test_a_window_longer_than_the_arcs_is_refused_with_what_fits(toy_store):
  with pytest.raises(
    ConfigError, match=r"data\.window_bp=53248 .*\(48000 bp\); at most 47104 fits"
  ):
    training_batches(toy_store, window_bp=53_248, batch_windows=4, seed=0)
  with pytest.raises(ConfigError, match=r"data\.window_bp=8192 .*\(6000 bp\); at most 4096 fits"):
    evaluation_batches(toy_store, "test", window_bp=8192, batch_windows=4)


def test_a_batch_that_can_not_be_dealt_out_is_refused(toy_store):
  with pytest.raises(ConfigError, match="batch_windows=4 is not a multiple of the 3 processes"):
    training_batches(toy_store, **TRAINING, process_count=3)


def test_closing_early_stops_the_threads(toy_store):
  batches = training_batches(toy_store, **TRAINING, threads=3, prefetch=64)
  next(batches)
  workers = [t for t in threading.enumerate() if t.name.startswith("grain-prefetch")]
  assert workers
  batches.close()
  batches.close()
  for worker in workers:
    worker.join(timeout=60)
  assert not any(worker.is_alive() for worker in workers)
  with pytest.raises(StopIteration):
    next(batches)


def test_a_failure_while_cutting_reaches_the_reader(toy_store, monkeypatch):
  batches = training_batches(toy_store, **TRAINING)

  def fail(*_, **__):
    raise OSError("the disk is gone")

  monkeypatch.setattr(type(toy_store), "fill", fail)
  with batches, pytest.raises(OSError, match="the disk is gone"):
    for _ in range(20):
      next(batches)


def test_grain_cuts_ahead_of_the_reader(toy_store):
  assert isinstance(training_batches(toy_store, **TRAINING)._iterator, grain.DatasetIterator)


def test_a_stream_left_open_does_not_hang_the_interpreter(toy_store):
  program = (
    "from alphaecoli.data.pipeline import training_batches\n"
    "from alphaecoli.tracks.store import open_store\n"
    f"batches = training_batches(open_store({str(toy_store.path)!r}), window_bp=2048,"
    " batch_windows=4, seed=0, prefetch=64)\n"
    "next(batches)\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False
  )
  assert (done.returncode, done.stderr) == (0, "")
