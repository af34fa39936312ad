"""The fuzzing command: a short run of it, and that it can see what it looks for."""

import itertools
import os
import time

import pytest

from alphaecoli.errors import DataError
from tests import fuzz

NAMES = list(fuzz.READERS)


def test_damaged_inputs_of_every_reader_are_read_or_refused_in_one_line(tmp_path):
  fuzz.write_samples(tmp_path)
  before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
  found = list(itertools.islice(fuzz.cases(tmp_path, 0, NAMES), 20 * len(NAMES)))
  assert [c for c in found if c.outcome not in (fuzz.READ, fuzz.REFUSED)] == []
  # Not all are refused at the door, nor none: the damage goes as deep as the readers.
  assert {case.reader for case in found if case.outcome == fuzz.REFUSED} == set(NAMES)
  assert len({case.reader for case in found if case.outcome == fuzz.READ}) > len(NAMES) - 3
  assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_seed_gives_the_same_inputs(tmp_path, monkeypatch):
  (tmp_path / "genome.fna").write_text(">a\nACGT\n")
  seen = []
  probe = fuzz.Reader(("*.fna",), lambda _, path: seen.append(path.read_bytes()))
  monkeypatch.setitem(fuzz.READERS, "probe", probe)

  def inputs(seed):
    seen.clear()
    list(itertools.islice(fuzz.cases(tmp_path, seed, ["probe"]), 20))
    return list(seen)

  assert inputs(1) == inputs(1) != inputs(2)


def _raise(error):
  raise error


@pytest.mark.parametrize(
  ("read", "outcome"),
  [
    (lambda *_: None, fuzz.READ),
    (lambda *_: _raise(DataError("x: not what it should be")), fuzz.REFUSED),
    (lambda *_: _raise(DataError("two\nlines")), fuzz.TRACEBACK),
    (lambda *_: _raise(DataError("A" * 5000)), fuzz.TRACEBACK),
    (lambda *_: _raise(KeyError("name")), fuzz.TRACEBACK),
    (lambda *_: _raise(MemoryError()), fuzz.MEMORY),
  ],
  ids=["read", "refused", "two lines", "long message", "other error", "memory"],
)
def test_outcomes_are_told_apart(tmp_path, read, outcome):
  assert fuzz._outcome(fuzz.Reader((), read), tmp_path, tmp_path)[0] == outcome


def _misbehave(folder, seed, names, first, pipe):
  """Reads input 0, dies of input 1, hangs at input 2, and goes on."""
  for index in itertools.count(first):
    if index == 1:
      os._exit(1)
    if index == 2:
      time.sleep(3600)
    pipe.send(fuzz.Case(index, "x", fuzz.READ))


@pytest.mark.slow
def test_a_reader_that_dies_or_hangs_is_counted_and_the_next_input_is_read(tmp_path, monkeypatch):
  monkeypatch.setattr(fuzz, "MOST_SECONDS", 3.0)
  (tmp_path / "samples").mkdir()
  found = fuzz.watched(tmp_path / "samples", 0, ["x"], _misbehave)
  outcomes = [case.outcome for case in itertools.islice(found, 5)]
  found.close()
  assert outcomes == [fuzz.READ, fuzz.CRASH, fuzz.HANG, fuzz.READ, fuzz.READ]
