import json

import numpy as np
import pytest

from alphaecoli.training.metrics_log import MetricsLog, Stopwatch, duration


def _steps(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line)["step"] for line in lines]


def test_continuing_drops_what_the_run_will_write_again(tmp_path):
  with MetricsLog(tmp_path, 0, tensorboard=False) as log:
    for step in (10, 20, 30):
      log.write("train", step, {"loss": step})
  with open(tmp_path / "metrics.jsonl", "a") as file:
    file.write('{"kind": "train", "st')  # killed while writing
  with MetricsLog(tmp_path, 20, tensorboard=False) as log:
    log.write("train", 30, {"loss": 1})
  assert _steps(tmp_path) == [10, 20, 30]


def test_values_that_json_can_not_hold_are_null(tmp_path):
  with MetricsLog(tmp_path, 0, tensorboard=False) as log:
    log.write("validation", 1, {"r2": float("nan"), "mse": 2.0})
  (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert json.loads(line) == {"kind": "validation", "step": 1, "r2": None, "mse": 2.0}


def test_tensorboard_files_are_written_where_wanted(tmp_path):
  with MetricsLog(tmp_path, 0, tensorboard=True) as log:
    log.write("train", 1, {"loss": 2.0})
  (events,) = (tmp_path / "tensorboard").iterdir()
  assert b"train/loss" in events.read_bytes()


def test_a_process_that_leaves_writing_to_another_writes_nothing(tmp_path):
  with MetricsLog(tmp_path, 0, tensorboard=True, active=False) as log:
    log.write("train", 1, {"loss": 2.0})
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("seconds", "text"), [(0, "0 s"), (99, "99 s"), (100, "2 min"), (5400, "90 min"), (7200, "2.0 h")]
)
def test_durations_are_easy_to_read(seconds, text):
  assert duration(seconds) == text


def test_phases_are_left_out_of_the_time_of_steps():
  clock = Stopwatch()
  clock.seconds = {"compile": clock.elapsed() - 5.0, "input": 3.0}
  np.testing.assert_allclose(clock.outside("compile", "evaluation"), 5, atol=0.5)


def _kinds(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [(json.loads(line)["kind"], json.loads(line)["step"]) for line in lines]


@pytest.mark.parametrize("unmeasured", [False, True])
def test_an_evaluation_that_is_done_again_is_recorded_once(tmp_path, unmeasured):
  with MetricsLog(tmp_path, 0, tensorboard=False) as log:
    log.write("train", 10, {"loss": 1})
    log.write("validation", 10, {"loss": 1})
    log.write("train", 20, {"loss": 1})
  with MetricsLog(tmp_path, 10, tensorboard=False, unmeasured=unmeasured):
    pass
  assert _kinds(tmp_path) == [("train", 10), ("validation", 10)][: 1 if unmeasured else 2]
