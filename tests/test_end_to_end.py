"""The commands of the README on the real data: process, train, kill, resume, evaluate, predict."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pyBigWig
import pytest

ROOT = Path(__file__).parents[1]
FASTA = ROOT / "alphaecoli/datasets/ecoli_k12_mg1655/NC_000913.3.fna.gz"
LENGTH_BP = 4_641_652
TRAIN = ["train", "--test-mode", "--config.train.steps=12", "--config.checkpoint.every_steps=4"]


def start(*arguments: str) -> subprocess.Popen[str]:
  environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
  return subprocess.Popen(
    [sys.executable, "-m", f"alphaecoli.{arguments[0]}", *arguments[1:]],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def run(*arguments: str) -> str:
  process = start(*arguments)
  output, _ = process.communicate(timeout=600)
  assert process.returncode == 0, output
  return output


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
  """A finished run that was killed without warning after its first checkpoint."""
  workdir = tmp_path_factory.mktemp("run")
  process = start(*TRAIN, "--workdir", str(workdir))
  deadline = time.monotonic() + 600
  while not any(p.name.isdigit() for p in (workdir / "checkpoints").glob("*")):
    assert process.poll() is None, process.communicate()[0]
    assert time.monotonic() < deadline
    time.sleep(0.1)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  output = run(*TRAIN, "--workdir", str(workdir))
  assert "continuing after step" in output
  return workdir


def test_a_killed_run_continues_to_its_last_step(workdir):
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  steps = [line["step"] for line in lines]
  assert max(steps) == 12
  losses = [v for line in lines for k, v in line.items() if k.startswith("loss/")]
  assert losses and np.isfinite(losses).all() and max(losses) < 50


def test_evaluation_prints_every_head_beside_its_baseline(workdir):
  table = run("evaluate", "--workdir", str(workdir), "--split", "test")
  report = json.loads((workdir / "evaluation_test.json").read_text())
  for name in ("gene_expression/genes_pearson", "gene_density/r2", "operon_membership/auroc"):
    assert name in table
    assert report["metrics"][name]["n"] > 100
  assert report["metrics"]["operon_membership/auroc"]["baseline"] == 0.5


@pytest.fixture(scope="module")
def predictions(workdir, tmp_path_factory) -> Path:
  """The tracks of the whole genome."""
  out = tmp_path_factory.mktemp("predictions")
  run(
    "predict", "--checkpoint", str(workdir), "--fasta", str(FASTA), "--circular", "all",
    "--store", str(workdir), "--out", str(out),
  )  # fmt: skip
  return out


def test_prediction_covers_the_genome_under_the_name_in_the_fasta(workdir, predictions):
  for name in ("gene_expression.mean", "gene_density", "operon_membership"):
    with pyBigWig.open(str(predictions / f"{name}.bw")) as track:
      assert track.chroms() == {"NC_000913.3": LENGTH_BP}
      assert track.header()["nBasesCovered"] == LENGTH_BP
      values = track.values("NC_000913.3", 0, 10_000, numpy=True)
      assert np.isfinite(values).all()
  genes = pandas.read_csv(predictions / "genes.tsv", sep="\t").set_index("name")
  assert tuple(genes.loc["thrA", ["start", "end", "strand", "split"]]) == (
    *(337, 2799, "+", "train"),
  )
  assert genes.loc["thrA", "observed_operon"] == genes.loc["thrB", "observed_operon"]
  pairs = pandas.read_csv(predictions / "pairs.tsv", sep="\t")
  lac = pairs[pairs.left_name.eq("lacY") | pairs.left_name.eq("lacA")]
  assert sorted(zip(lac.left_name, lac.right_name, lac.observed_same_operon, strict=True)) == [
    ("lacA", "lacY", 1.0),
    ("lacY", "lacZ", 1.0),
  ]
  report = json.loads((workdir / "evaluation_test.json").read_text())
  among = report["metrics"]["operon_membership/pairs_auroc"]["n"]
  assert len(pairs[pairs.split.eq("test")]) == among


def test_other_places_of_the_windows_change_little(workdir, tmp_path):
  report = tmp_path / "phases.json"
  run(
    "phases", "--checkpoint", str(workdir), "--fasta", str(FASTA), "--bases", "32768",
    "--phases", "2", "--json", str(report),
  )  # fmt: skip
  rows = json.loads(report.read_text())["margins"]
  quarter = rows[2]["heads"]
  limits = {"gene_expression": 0.4, "gene_density": 0.1, "operon_membership": 0.15}
  for head, most in limits.items():  # what docs/prediction.md states
    assert quarter[head]["1.0"] < most, head
  assert quarter["gene_expression"]["1.0"] < rows[0]["heads"]["gene_expression"]["1.0"]


def test_the_report_is_one_small_file_about_the_run(workdir, predictions):
  run("report", "--workdir", str(workdir), "--predictions", str(predictions), "--loci", "lacZ")
  page = workdir / "report.html"
  assert page.stat().st_size < 10e6
  text = page.read_text()
  assert "finished, 12 steps" in text and '"label":"lacZ"' in text
