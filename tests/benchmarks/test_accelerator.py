"""The accelerator script: a rehearsal of all of it, and what is left of a run that is cut."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from alphaecoli.benchmarks import accelerator, accelerator_stages
from alphaecoli.benchmarks.accelerator_stages import Run
from alphaecoli.benchmarks.accelerator_table import markdown, within
from alphaecoli.benchmarks.step import GRID, best_variant
from alphaecoli.checkpoints.read import find_ensemble, load_inference, read_ensemble
from alphaecoli.config import base_config, resolve
from alphaecoli.errors import ConfigError, UserError
from alphaecoli.files import hash_file
from tests import toy

ROOT = Path(__file__).parents[2]
# A stage's process: what each part of PARTS does, until there is one that ends the process.
STAND_IN = """\
import json, os, sys, time
stage, work = (sys.argv[sys.argv.index(flag) + 1] for flag in ("--part-of", "--work"))
path = f"{work}/{stage}.jsonl"
noted = {json.loads(line)["part"] for line in open(path)} if os.path.exists(path) else set()
def note(**values):
  with open(path, "a") as file:
    file.write(json.dumps(values) + "\\n")
for part, does in json.load(open(f"{work}/does.json"))[stage].items():
  if part in noted:
    continue
  if does == "no start":
    sys.exit(3)
  note(part=part, began=time.time())
  if does == "hang":
    time.sleep(600)
  if does == "crash":
    os.kill(os.getpid(), 11)
  if does == "fail":
    note(part=part, seconds=1.0, error="RuntimeError: out of memory")
    sys.exit(1)
  note(part=part, seconds=1.0, result=does)
"""


@pytest.fixture
def run_stages(tmp_path, monkeypatch):
  """A function that runs stages whose parts do what it is told; returns status and report."""
  script = tmp_path / "stage.py"
  script.write_text(STAND_IN)
  monkeypatch.setattr(accelerator, "LEAST_S", 0.3)
  monkeypatch.setattr(accelerator, "CLOSING_S", 0.0)
  monkeypatch.setattr(accelerator, "_POLL_S", 0.05)
  monkeypatch.setattr(accelerator.signal, "signal", lambda *_: None)

  def run(does, seconds=60.0):
    does = {"device": {"device": {"device": "chip"}}, **does}
    (tmp_path / "does.json").write_text(json.dumps(does))
    monkeypatch.setattr(accelerator, "parts_of", lambda stage, run: does[stage])
    head = {"rehearsal": False, "minutes": 1, "recipe": "quickstart"}
    session = accelerator.Session(
      Run(tmp_path, True, resolve(base_config()), {}), tmp_path / "out", head, []
    )
    session._command = [sys.executable, str(script)]
    (tmp_path / "out").mkdir(exist_ok=True)
    status = session.run(list(does), seconds)
    return status, json.loads((tmp_path / "out" / accelerator.REPORT).read_text())

  return run


def found(report, stage):
  """What a report says of each part of a stage: its result or its error."""
  parts = report["stages"][stage]["parts"]
  return {name: part.get("result", part.get("error")) for name, part in parts.items()}


def test_a_part_that_fails_or_crashes_leaves_the_others(run_stages):
  good = {"good": True, "errors": {"x": 1e-7}}
  status, report = run_stages(
    {"checks": {"a": good, "b": "fail", "c": good, "d": "crash", "e": good}, "trunk": {"t": good}}
  )
  assert status == 1
  assert found(report, "checks") == {
    "a": good,
    "b": "RuntimeError: out of memory",
    "c": good,
    "d": "its process ended with status -11",
    "e": good,
  }
  assert found(report, "trunk") == {"t": good}


def test_a_stage_that_hangs_is_cut_and_its_parts_that_follow_and_other_stages_run(
  run_stages, tmp_path
):
  good = {"good": True, "errors": {"x": 1e-7}}
  parts = {"checks": {"a": good, "b": "hang", "c": good}, "trunk": {"t": "hang"}}
  status, report = run_stages({**parts, "predict": {}}, seconds=12.0)
  checks = found(report, "checks")
  assert status == 1 and checks["a"] == checks["c"] == good
  assert checks["b"].startswith("cut at its limit of ")
  assert found(report, "trunk")["t"].startswith("cut at ")
  table = (tmp_path / "out" / accelerator.TABLE).read_text()
  assert "- a: as they must be; largest errors 1.0e-07" in table
  assert "- checks, b: cut at its limit" in table


def test_the_first_setting_of_the_step_may_take_all_of_its_stage(run_stages):
  """Compiling may take most of it, and one figure is worth more than a try of the next setting."""
  _, report = run_stages({"step": {"a": "hang", "b": {}}, "predict": {}}, seconds=6.0)
  cut = found(report, "step")
  assert cut["a"].startswith("cut at the limit of its stage, ")
  assert cut["b"] == "not run: its stage's time was spent"


def test_a_fold_that_is_cut_says_how_far_it_came(run_stages, tmp_path):
  (tmp_path / "train" / "fold_0").mkdir(parents=True)
  records = [
    {"kind": "train", "step": 400, "windows_per_s": 51.26},
    {"kind": "validation", "step": 400},
  ]
  text = "".join(json.dumps(record) + "\n" for record in records) + '{"kind": "tr'
  (tmp_path / "train" / "fold_0" / "metrics.jsonl").write_text(text)
  steps = resolve(base_config()).train.steps
  _, report = run_stages({"train": {"fold_0": "crash"}})
  assert found(report, "train")["fold_0"] == (
    f"its process ended with status -11; at step 400 of {steps}, 51.3 windows/s"
  )


def test_a_trace_that_was_not_written_costs_its_part_alone(tmp_path, monkeypatch):
  monkeypatch.setattr(accelerator_stages, "time_step", lambda *_: {"step_s": 1.0})
  noted = {GRID[0].name: {"bases_per_s": 1.0}}
  run = Run(tmp_path, False, resolve(base_config()), noted)
  with pytest.raises(UserError, match="profiler wrote no trace"):
    accelerator_stages.trace_best(run)
  (tmp_path / "trace" / "plugins").mkdir(parents=True)
  (tmp_path / "trace" / "plugins" / "host.xplane.pb").write_bytes(b"x")
  assert accelerator_stages.trace_best(run) == {"best": GRID[0].name, "step_s": 1.0}


@pytest.mark.parametrize("errors", [{"a": float("nan"), "b": 0.0}, {"a": 0.0, "b": float("nan")}])
def test_a_check_that_gives_nan_fails_and_says_so(errors):
  """Whichever comes first: the maximum of NaN and a number is the one or the other."""
  assert not within(errors, 1e-2)
  assert within({"a": 1e-3, "b": 9e-3}, 1e-2) and not within({"a": 1e-3, "b": 1e-2}, 1e-2)
  noted = accelerator._finite({"good": False, "errors": errors})
  stages = {"checks": {"parts": {"blocks": {"result": noted}}}}
  text = markdown({"stages": stages, "started": "now", "rehearsal": False, "recipe": "x"})
  assert "- blocks: **NOT as they must be**; largest errors nan" in text


def test_the_table_says_what_the_device_does_what_is_best_and_where_the_time_went():
  device = {
    "device": "NVIDIA H100 80GB HBM3",
    "versions": {"jax": "0.11.2"},
    "peak_bf16_flops_per_s": 989e12,
    "measured_bf16_flops_per_s": 700e12,
    "measured_bytes_per_s": 2.9e12,
    "memory_bytes": {"limit": 73 * 2**30},
  }
  step = {
    "changes": {"model.remat": False, "train.batch_windows": 16},
    "compile_s": 60.0,
    "step_s": 0.2,
    "windows_per_s": 80.0,
    "bases_per_s": 7.9e6,
    "model_flops_per_s_and_device": 2e14,
    "mfu": 0.2,
    "planned_bytes": None,
  }
  stages = {
    "device": {"parts": {"device": {"result": device}}, "seconds": 20.4, "limit_s": 104.3},
    "step": {"parts": {GRID[1].name: {"result": step}}},  # under way
  }
  head = {"started": "now", "rehearsal": False, "recipe": "x", "best": GRID[1].name}
  lines = markdown({"stages": stages, **head}).splitlines()
  assert lines[:4] == [
    "NVIDIA H100 80GB HBM3, now, jax 0.11.2",
    "",
    "- device: bfloat16 matrix product 700.0 TFLOP/s of 989, copy 2,900 GB/s, memory for programs "
    "73.0 GiB",
    "- stages: device 20 of 104 s",
  ]
  assert (
    f"- step: best is {GRID[1].name} (--config.model.remat=False --config.train.batch_windows=16)"
    in lines
  )


def test_a_stage_whose_process_never_starts_is_not_tried_for_every_part(run_stages):
  status, report = run_stages({"checks": {"a": "no start", "b": {}}})
  assert status == 1
  assert set(found(report, "checks").values()) == {"not run: its process ended with status 3"}


def test_without_an_accelerator_nothing_else_is_run(run_stages):
  status, report = run_stages({"device": {"device": "fail"}, "checks": {"a": "hang"}})
  assert status == 1 and list(report["stages"]) == ["device"]


def test_large_files_come_in_pieces_with_checksums(tmp_path, monkeypatch):
  monkeypatch.setattr(accelerator, "PIECE_BYTES", 1000)
  session = accelerator.Session(
    Run(tmp_path, True, resolve(base_config()), {}), tmp_path / "out", {}, []
  )
  (tmp_path / "out").mkdir()
  for size in (3000, 2500, 900):  # of one archive that changes
    content = os.urandom(size)
    (tmp_path / "weights.tar").write_bytes(content)
    session._add_file(tmp_path / "weights.tar")
    files = session._report["files"]
    paths = [tmp_path / "out" / file["name"] for file in files]
    assert b"".join(path.read_bytes() for path in paths) == content
    assert [path.stat().st_size for path in paths] == [file["bytes"] for file in files]
    assert [hash_file(path) for path in paths] == [file["sha256"] for file in files]
    assert len(paths) == len(list((tmp_path / "out").iterdir())) == -(-size // 1000)


def test_the_best_setting_is_the_same_training_at_most_bases_a_second():
  rates = {variant.name: {"bases_per_s": 100 - i} for i, variant in enumerate(GRID)}
  other = next(variant.name for variant in GRID if not variant.comparable)
  assert best_variant({**rates, other: {"bases_per_s": 999}}) == GRID[0].name
  assert best_variant({other: {"bases_per_s": 999}}) is None
  assert len({variant.name for variant in GRID}) == len(GRID)


@pytest.mark.parametrize("flags", [["--stages=checks,fly"], ["--minutes=0"]])
def test_a_wrong_command_line_is_refused(flags):
  with pytest.raises(
    ConfigError, match="expected more than 0 minutes, and stages of device,checks"
  ):
    accelerator.main(flags)


def rehearse(folder, *flags):
  """Runs the script on a toy chromosome; returns its report and the results by part."""
  dump = toy.write_random(folder / "dump", 120_000)
  kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
  out = folder / "out"
  data = [f"--config.data.dump={dump.dump}", f"--config.data.genome={dump.fasta}"]
  data.append("--config.data.min_genes_per_unit=10")
  command = ["bash", str(ROOT / "launch/accelerator.sh"), "--rehearse", "--minutes=60", *flags]
  command += ["--out", str(out), "--work", str(folder / "work"), *data]
  kept["PYTHON"] = sys.executable
  done = subprocess.run(command, env=kept, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr + (out / "log.txt").read_text()[-3000:]
  report = json.loads((out / "accelerator.json").read_text())
  assert report["rehearsal"] and "What is missing" not in (out / "accelerator.md").read_text()
  parts = [stage["parts"] for stage in report["stages"].values()]
  return report, {name: part["result"] for stage in parts for name, part in stage.items()}


def test_a_rehearsal_of_the_stages_that_are_quick(tmp_path):
  report, results = rehearse(tmp_path, "--stages=checks,predict,trunk")
  assert list(report["stages"]) == ["device", "checks", "predict", "trunk"]
  assert all(results[name]["good"] for name in ("convolutions", "blocks", "trunk"))
  assert results["device"]["measured_bytes_per_s"] > 0
  assert results["genome"]["bases_per_s"] > 0 and results["1 Mb window"]["window_bp"] == 8192
  assert {p.name for p in (tmp_path / "out").iterdir()} == {
    "accelerator.json",
    "accelerator.md",
    "log.txt",
  }


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_rehearsal_runs_every_stage_and_its_weights_predict(tmp_path):
  report, results = rehearse(tmp_path)
  out = tmp_path / "out"
  assert list(report["stages"]) == list(accelerator.SHARES)
  assert all(results[name]["good"] for name in ("convolutions", "blocks", "trunk"))
  assert report["best"] == results["trace"]["best"] == GRID[1].name
  assert "2 of 10 folds" in (out / "accelerator.md").read_text()

  files = {path.name for path in out.iterdir()}
  brought = {file["name"]: file["sha256"] for file in report["files"]}
  assert brought.keys() == {"trace.xplane.pb.gz", "weights.tar"}
  assert files == {"accelerator.json", "accelerator.md", "log.txt", *brought}
  assert all(hash_file(out / name) == digest for name, digest in brought.items())
  with tarfile.open(out / "weights.tar") as archive:
    archive.extractall(tmp_path / "weights", filter="data")
  members = read_ensemble(find_ensemble(tmp_path / "weights"))
  assert [load_inference(str(member)).config.data.fold for member in members] == [0, 1]
