"""Windows put together again, against plain slices of the chromosome."""

import numpy as np
import pytest

from alphaecoli.errors import UserError
from alphaecoli.evaluation.split_arrays import Assembly, Layout, local_rows
from alphaecoli.schema import HEADS

LENGTH_BP = 30_000
WINDOW_BP = 2_048
# The second region crosses the origin and is no multiple of the window, nor of a bin.
REGIONS = ((5_000, 5_000 + 3 * WINDOW_BP), (27_001, 27_001 + 5_000))
LAYOUT = Layout(REGIONS, LENGTH_BP)


def chromosome() -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  expression = rng.normal(size=(LENGTH_BP, 2)).astype(np.float32)
  expression[rng.random((LENGTH_BP, 2)) < 0.4] = np.nan
  return {
    "gene_expression": expression,
    "gene_density": rng.normal(size=(LENGTH_BP, 1)).astype(np.float32),  # of the bin from here
    "operon_membership": rng.integers(0, 2, (LENGTH_BP, 1)).astype(np.float32),
    "gene_structure": rng.choice([0, 1, np.nan], (LENGTH_BP, 8)).astype(np.float32),
    "operon_junction": rng.choice([0, 1, np.nan], (LENGTH_BP, 2)).astype(np.float32),
  }


TRUTH = chromosome()


def tiles() -> list[tuple[int, int]]:
  """Start, and how many bases an earlier window has had."""
  found = []
  for start, end in REGIONS:
    for at in range(start, end, WINDOW_BP):
      repeated = max(at + WINDOW_BP - end, 0)
      found.append(((at - repeated) % LENGTH_BP, repeated))
  return found


def window(start: int, repeated: int) -> dict[str, np.ndarray]:
  rows = (start + np.arange(WINDOW_BP)) % LENGTH_BP
  new = np.arange(WINDOW_BP) >= repeated
  bins = np.arange(0, WINDOW_BP, 128)
  found = {"sequence": np.zeros(WINDOW_BP, np.uint8), "start": np.int32(start)}
  for head, truth in TRUTH.items():
    at = bins if head == "gene_density" else slice(None)
    found[head] = np.nan_to_num(truth[rows[at]])
    found[f"{head}_known"] = ~np.isnan(truth[rows[at]]) & new[at][:, None]
  return found


def batches(process: int, processes: int, rows: int) -> list[dict[str, np.ndarray]]:
  """Global batches in order; each process has its contiguous rows, the last batch is padded."""
  windows = [window(*tile) for tile in tiles()]
  while len(windows) % (rows * processes):
    windows.append({k: np.zeros_like(v) for k, v in windows[0].items()})
  found = []
  for first in range(process * rows, len(windows), rows * processes):
    part = windows[first : first + rows]
    found.append({k: np.stack([w[k] for w in part]) for k in part[0]})
  return found


def perfect(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Twice the target where it is known, else the row of the window, which counts nowhere."""
  return {h: np.where(batch[f"{h}_known"], 2 * batch[h], 7).astype(np.float32) for h in HEADS}


def assembled(process: int = 0, processes: int = 1, rows: int = 2) -> Assembly:
  assembly = Assembly(LAYOUT, n_tracks=2)
  for batch in batches(process, processes, rows):
    assembly.add(batch, perfect(batch))
  return assembly


def merged(parts: list[Assembly]) -> Assembly:
  """What every process has after `gather`."""
  whole = Assembly(parts[0].layout, parts[0].targets["gene_expression"].shape[1])
  for head, targets in whole.targets.items():
    for track in range(targets.shape[1]):
      whole._merge_column(head, track, np.stack([part._column(head, track) for part in parts]))
  whole.heads.update(*(part.heads for part in parts))
  return whole


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 4])
def test_every_base_is_there_once_for_any_number_of_processes(processes, rows):
  whole = merged([assembled(p, processes, rows) for p in range(processes)])
  rows = np.concatenate([np.arange(start, end) % LENGTH_BP for start, end in REGIONS])
  assert len(rows) == sum(end - start for start, end in REGIONS)
  for head in set(HEADS) - {"gene_density"}:
    np.testing.assert_array_equal(whole.targets[head], TRUTH[head][rows])
    known = ~np.isnan(TRUTH[head][rows])
    np.testing.assert_array_equal(
      whole.predictions[head], np.where(known, 2 * TRUTH[head][rows], 7)
    )
  known = ~np.isnan(whole.targets["gene_density"][:, 0])
  np.testing.assert_array_equal(
    whole.targets["gene_density"][known], TRUTH["gene_density"][rows][known]
  )
  np.testing.assert_array_equal(np.isnan(whole.predictions["gene_density"][:, 0]), ~known)
  expected = sum(window(*tile)["gene_density_known"].sum() for tile in tiles())
  assert known.sum() == expected
  assert whole.heads == set(HEADS)


def test_a_base_known_twice_is_refused():
  whole = assembled()
  with pytest.raises(ValueError, match="two processes"):
    merged([whole, whole])
  batch = batches(0, 1, 1)[0]
  with pytest.raises(ValueError, match="two windows"):
    whole.add(batch, perfect(batch))


def test_a_window_of_another_split_is_refused():
  batch = {k: v[None] for k, v in window(0, 0).items()}
  with pytest.raises(ValueError, match="not within a region"):
    Assembly(LAYOUT, n_tracks=2).add(batch, perfect(batch))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_predictions_that_are_not_finite_name_head_and_window(value):
  batch = batches(0, 1, 1)[0]
  outputs = perfect(batch)
  outputs["gene_density"][0, 3] = value
  with pytest.raises(UserError, match="gene_density: 1 predictions of the window at 5000"):
    Assembly(LAYOUT, n_tracks=2).add(batch, outputs)


def test_intervals_are_found_in_the_region_that_holds_all_of_them():
  assert LAYOUT.locate(5_000, 5_010) == slice(0, 10)
  assert LAYOUT.locate(4_999, 5_010) is None
  first = 3 * WINDOW_BP
  assert LAYOUT.locate(27_001, 27_002) == slice(first, first + 1)
  assert LAYOUT.locate(29_990, 30_010) == slice(first + 2_989, first + 3_009)  # over the origin
  assert LAYOUT.locate(0, 2_001) == slice(first + 2_999, first + 5_000)
  assert LAYOUT.locate(0, 2_002) is None


def test_local_rows_takes_what_belongs_to_the_process():
  everything = np.arange(12).reshape(6, 2)
  np.testing.assert_array_equal(local_rows(everything, 1, 2), everything[2:4])
  np.testing.assert_array_equal(local_rows(everything[:2], 1, 2), everything[:2])
