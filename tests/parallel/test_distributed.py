"""Several processes on this machine are one run: same figures, one writer, common end."""

import argparse
import dataclasses
import json
import signal
import subprocess
import time

import numpy as np
import pytest

from alphaecoli.errors import ConfigError
from alphaecoli.parallel import distributed
from alphaecoli.parallel.sharding import _arrange, shard_of
from tests import processes, toy

RUN = "tests.parallel.distributed_run"


def flags(*arguments: str) -> argparse.Namespace:
  parser = argparse.ArgumentParser()
  distributed.add_flags(parser)
  return parser.parse_args(arguments)


GIVEN = ("--coordinator", "10.0.0.1:8476", "--num-processes", "4", "--process-id", "3")
SLURM = dict.fromkeys(distributed._SLURM, "1")


def test_flags_become_settings_and_win_over_the_environment():
  found = distributed.settings(flags(*GIVEN), {**SLURM, "SLURM_NTASKS": "8"})
  assert found == {
    "coordinator_address": "10.0.0.1:8476",
    "num_processes": 4,
    "process_id": 3,
    "cluster_detection_method": "deactivate",
  }


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (GIVEN[:2], "--num-processes, --process-id missing"),
    (GIVEN[2:], "--coordinator missing"),
    ((*GIVEN[:4], "--process-id", "4"), "--process-id=4 of --num-processes=4; expected 0 to 3"),
    (("--coordinator", "host", *GIVEN[2:]), "expected HOST:PORT"),
    (("--coordinator", "host:99999", *GIVEN[2:]), "expected HOST:PORT"),
    ((*GIVEN, "--distributed", "none"), "contradicts"),
    (("--peer-timeout", "0"), "at least 1 second"),
  ],
)
def test_flags_that_make_no_sense_are_refused(arguments, message):
  with pytest.raises(ConfigError, match=message) as caught:
    distributed.settings(flags(*arguments), {})
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("environment", "method"),
  [
    ({}, None),
    ({**SLURM, "SLURM_NTASKS": "1"}, None),  # one task may use every GPU of its node
    ({**SLURM, "SLURM_NTASKS": "8"}, "slurm"),
    ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}, None),  # in the batch script, outside srun
    ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1"}, "ompi"),
    ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
    ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),  # a pod of its own
  ],
  ids=lambda value: value if isinstance(value, str) else None,
)
def test_schedulers_are_found_where_they_start_several_processes(environment, method):
  found = distributed.settings(flags(), environment)
  assert found == (None if method is None else {"cluster_detection_method": method})
  assert distributed.settings(flags("--distributed", "none"), environment) is None


def test_a_scheduler_that_does_not_say_enough_is_an_error_rather_than_copies_of_a_run():
  with pytest.raises(ConfigError, match="Open MPI 5"):
    distributed.settings(flags(), {"OMPI_COMM_WORLD_SIZE": "2"})
  indexed = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}
  with pytest.raises(ConfigError, match=r"install jax\[k8s\]"):
    distributed.settings(flags(), indexed)


@pytest.mark.parametrize(
  ("environment", "expected"),
  [
    ({}, {}),  # a Cloud TPU VM: its metadata tell
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, {}),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ({"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, {}),
    ({"JAX_PLATFORMS": "cpu"}, None),
    ({"TPU_SKIP_MDS_QUERY": "1"}, None),  # set by jax where there are no chips, and by GKE
    ({"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "a,b"}, {}),
  ],
)
def test_tpu_hosts_find_each_other(environment, expected, monkeypatch):
  monkeypatch.setattr(distributed.glob, "glob", lambda pattern: ["/dev/accel0"])
  monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: object())
  assert distributed.settings(flags(), environment) == expected


def shards(owners):
  found = [shard_of(np.asarray(owners), process) for process in range(np.max(owners) + 1)]
  return [(shard.index, shard.count, shard.first) for shard in found]


def test_windows_are_shared_by_where_the_devices_lie_in_the_mesh():
  half = [(0, 2, True), (1, 2, True)]
  assert shards([[0], [0], [1], [1]]) == half
  assert shards([[0], [1], [1], [0]]) == half  # as TPU links may have it
  assert shards([[0, 0], [1, 1]]) == half
  assert shards([[0, 0, 1, 1]]) == [(0, 1, True), (0, 1, False)]
  assert shards([[0, 0, 1, 1], [2, 2, 3, 3]]) == [
    (0, 2, True), (0, 2, False), (1, 2, True), (1, 2, False),
  ]  # fmt: skip
  with pytest.raises(ConfigError, match="cuts across the devices of 2 processes"):
    shards([[0, 0], [0, 1], [1, 1]])


@dataclasses.dataclass(frozen=True)
class Device:
  """What laying out reads of a device."""

  id: int
  slice_index: int
  process_index: int = 0
  platform: str = "gpu"
  device_kind: str = "a GPU"


@pytest.mark.parametrize(
  ("sizes", "nodes", "expected"),
  [
    ((4, 2, 1), 2, [[[0], [1]], [[2], [3]], [[4], [5]], [[6], [7]]]),
    ((1, 8, 1), 2, [[[0], [1], [2], [3], [4], [5], [6], [7]]]),
    ((2, 1, 4), 4, [[[0, 1, 2, 3]], [[4, 5, 6, 7]]]),
  ],
)
def test_nodes_and_slices_split_the_data_axis_first(sizes, nodes, expected):
  devices = [Device(i, i * nodes // 8) for i in range(8)]
  found = _arrange(list(sizes), devices)
  np.testing.assert_array_equal(np.vectorize(lambda device: device.id)(found), expected)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """A dump and a genome, as arguments."""
  dump = toy.write_random(tmp_path_factory.mktemp("dump"), 120_000, 0)
  return ["--dump", str(dump.dump), "--genome", str(dump.fasta)]


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
  """The work directory of a run of one process with four devices."""
  workdir = tmp_path_factory.mktemp("alone")
  processes.run(RUN, [*data, *options(workdir, "4,1,1")], 1, 4, workdir / "logs")
  return workdir


def options(workdir, mesh, steps=4):
  return ["--workdir", str(workdir), "--mesh", mesh, "--steps", str(steps)]


def records(workdir, kind):
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  kept = [line for line in lines if line["kind"] == kind]
  keys = [k for k in kept[0] if "loss" in k or "known" in k or k in ("step", "grad_norm")]
  assert len(keys) >= 4
  return [{key: line[key] for key in keys} for line in kept]


def same_run(found, expected):
  """Same windows step by step, same losses to rounding, every base of the evaluation once."""
  ours, theirs = records(found, "train"), records(expected, "train")
  assert [line["step"] for line in ours] == [1, 2, 3, 4]
  for one, other in zip(ours, theirs, strict=True):
    assert one == pytest.approx(other, rel=2e-5, abs=1e-6)
  reports = [json.loads((path / "validation.json").read_text()) for path in (found, expected)]
  assert reports[0]["n_bases"] == reports[1]["n_bases"] > 0
  for name, figure in reports[1]["metrics"].items():
    assert reports[0]["metrics"][name]["n"] == figure["n"], name
    value = reports[0]["metrics"][name]["model"]
    if figure["model"] is None:  # undefined: no gene is called by an untrained model
      assert value is None, name
    else:
      assert value == pytest.approx(figure["model"], rel=1e-3), name


def test_two_processes_train_as_one_and_one_of_them_writes(data, alone, tmp_path):
  texts = processes.run(RUN, [*data, *options(tmp_path, "2,2,1")], 2, 2, tmp_path / "logs")
  same_run(tmp_path, alone)
  assert "2 processes, 4 devices" in texts[0] and "step 4/4" in texts[0]
  assert " I " not in texts[1] and "step " not in texts[1]
  (start,) = json.loads((tmp_path / "run.json").read_text())["starts"]
  assert start["processes"] == 2
  stores = [path for path in (tmp_path / "tracks").iterdir() if path.is_dir()]
  assert len(stores) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
  ("count", "devices", "mesh"),
  [(2, 2, "1,1,4"), (4, 1, "4,1,1"), (4, 1, "1,4,1"), (4, 2, "2,1,4"), (4, 2, "2,2,2")],
)
def test_any_mesh_over_any_processes_is_the_same_run(data, alone, tmp_path, count, devices, mesh):
  processes.run(RUN, [*data, *options(tmp_path, mesh)], count, devices, tmp_path / "logs")
  same_run(tmp_path, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("before", "after", "mesh"),
  [
    (2, 1, "2,2,1"),
    (1, 2, "1,4,1"),
    (4, 1, "4,1,1"),
    (4, 2, "2,1,2"),
    (2, 4, "1,4,1"),
    (1, 4, "1,1,4"),
  ],
)
def test_a_run_goes_on_with_other_processes_and_another_mesh(
  data, alone, tmp_path, before, after, mesh
):
  """The first part is killed after its checkpoint of step 2."""
  first, second = (tmp_path / name for name in ("before", "after"))
  arguments = [*data, *options(tmp_path, "2,2,1"), "--slow", "1"]
  running = processes.start(RUN, arguments, before, 4 // before, first)
  _wait_for(running[0], (tmp_path / "checkpoints" / "2" / "commit_success.txt").exists)
  for process in running:
    process.kill()
  processes.finish(running, first)
  arguments = [*data, *options(tmp_path, mesh)]
  texts = processes.run(RUN, arguments, after, 4 // after, second)
  assert "continuing after step 2" in texts[0]
  same_run(tmp_path, alone)


def _wait_for(process: subprocess.Popen, condition, seconds=300):
  deadline = time.monotonic() + seconds
  while not condition():
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1], ids=["coordinator", "other"])
def test_when_a_process_dies_the_others_end_and_the_run_goes_on(data, alone, tmp_path, victim):
  logs = tmp_path / "logs"
  arguments = [*data, *options(tmp_path, "4,1,1"), "--peer-timeout", "10"]
  running = processes.start(RUN, [*arguments, "--slow", "3"], 2, 2, logs)
  try:
    _wait_for(running[0], (tmp_path / "checkpoints" / "2" / "commit_success.txt").exists)
  except AssertionError:
    processes.finish(running, logs)
    raise
  running[victim].kill()
  started = time.monotonic()
  survivor = running[1 - victim]
  assert survivor.wait(120) != 0, (logs / f"{1 - victim}.txt").read_text()
  print(f"ended after {time.monotonic() - started:.0f} s")
  processes.finish(running, logs)
  processes.run(RUN, arguments, 2, 2, tmp_path / "again")
  same_run(tmp_path, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("number", "step"),
  [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 4)],
  ids=["SIGTERM", "SIGINT", "in an evaluation"],
)
@pytest.mark.parametrize("receiver", [0, 1], ids=["coordinator", "other"])
def test_a_signal_to_one_process_saves_in_all_and_the_run_goes_on(
  data, alone, tmp_path, number, step, receiver
):
  logs = tmp_path / "logs"
  arguments = [*data, *options(tmp_path, "2,1,2")]
  running = processes.start(RUN, [*arguments, "--slow", "2"], 2, 2, logs)
  _wait_for(running[0], lambda: f"step {step}/4" in (logs / "0.txt").read_text())
  running[receiver].send_signal(number)
  assert processes.finish(running, logs) == [75, 75], (logs / "0.txt").read_text()
  stopped = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
  assert stopped < 4 or step == 4
  assert not (tmp_path / "validation.json").exists()
  processes.run(RUN, arguments, 2, 2, tmp_path / "again")
  same_run(tmp_path, alone)


@pytest.mark.slow
def test_a_checkpoint_that_one_process_can_not_read_is_passed_over_by_all(data, alone, tmp_path):
  arguments = [*data, *options(tmp_path, "2,2,1")]
  processes.run(RUN, arguments, 2, 2, tmp_path / "logs")
  texts = processes.run(RUN, [*arguments, "--blind", "4"], 2, 2, tmp_path / "again")
  assert "checkpoint 4 is passed over: processes that can not read it: [1]" in texts[0]
  assert "checkpoint 4 is damaged" in texts[1] and "continuing after step 2" in texts[0]
  same_run(tmp_path, alone)


SMALLEST = {"channels": 4, "channel_step": 2, "n_layers": 1, "n_heads": 1, "key_dim": 4}


@pytest.mark.slow
def test_the_commands_themselves_train_and_evaluate_in_two_processes(data, tmp_path):
  values = {f"model.{key}": value for key, value in SMALLEST.items()}
  values |= {
    "data.dump": data[1],
    "data.genome": data[3],
    "data.min_genes_per_unit": 1,
    "data.window_bp": 2048,
    "train.steps": 2,
    "log.tensorboard": False,
  }
  arguments = ["--test-mode", *(f"--config.{key}={value}" for key, value in values.items())]
  reports = []
  for count in (2, 1):
    workdir = tmp_path / str(count)
    place = ["--workdir", str(workdir)]
    processes.run("alphaecoli.train", [*arguments, *place], count, 2 // count, workdir / "train")
    texts = processes.run("alphaecoli.evaluate", place, count, 2 // count, workdir / "evaluate")
    assert "test split" in texts[0] and not any("test split" in text for text in texts[1:])
    reports.append(json.loads((workdir / "evaluation_test.json").read_text()))
  two, one = reports
  assert two["n_bases"] == one["n_bases"] > 0
  for name, figure in one["metrics"].items():
    assert two["metrics"][name]["n"] == figure["n"], name
    assert two["metrics"][name]["model"] == pytest.approx(figure["model"], rel=1e-3), name
