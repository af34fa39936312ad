"""Traces are read back with JAX's own reader."""

import jax
import pytest

from alphaecoli.errors import ConfigError
from alphaecoli.train import profiled_steps
from alphaecoli.training.run import train_on
from tests.training.small import stand_in, tiny_config, with_mesh


def _traced(workdir):
  """Numbers of the steps in the traces of a work directory."""
  found = []
  for path in sorted(workdir.glob("profile/plugins/profile/*/*.xplane.pb")):
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
      for line in plane.lines:
        found += [dict(e.stats)["step_num"] for e in line.events if e.name == "train"]
  return found


@pytest.mark.parametrize(
  ("profile", "steps"),
  [(range(3, 5), [3, 4]), (range(8, 9), [8]), (None, [])],
  ids=["middle", "last", "none"],
)
def test_the_trace_holds_the_steps_that_were_asked_for(store, tmp_path, profile, steps):
  config = with_mesh(tiny_config(), 8)
  assert train_on(store, config, tmp_path, stand_in(), profile) == 0
  assert _traced(tmp_path) == steps


def test_a_run_that_goes_on_within_the_steps_traces_the_rest(store, tmp_path):
  assert train_on(store, with_mesh(tiny_config(train__steps=4), 8), tmp_path, stand_in()) == 0
  config = with_mesh(tiny_config(), 8)
  assert train_on(store, config, tmp_path, stand_in(), range(3, 7)) == 0
  assert _traced(tmp_path) == [5, 6]


def test_steps_of_a_profile_are_read():
  assert profiled_steps("10:12", 100) == range(10, 13)
  assert profiled_steps("100:100", 100) == range(100, 101)


@pytest.mark.parametrize("text", ["5", "5:", ":5", "a:b", "5:4", "0:3", "-1:3", "9:101", "1:2:3"])
def test_profiles_that_make_no_sense_are_refused(text):
  with pytest.raises(ConfigError, match=r"expected START:STOP, two steps from 1 to") as failure:
    profiled_steps(text, 100)
  assert failure.value.exit_code == 2 and "\n" not in str(failure.value)
