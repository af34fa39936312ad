"""A real run of a stand-in model on a toy chromosome, its evaluation and its page."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from alphaecoli import report
from alphaecoli.evaluation.evaluator import evaluate as evaluate_with
from alphaecoli.evaluation.run import write_genes
from alphaecoli.files import write_json
from alphaecoli.inference.predictor import Predictor
from alphaecoli.reporting.chromosome import choose_loci, genome_view
from alphaecoli.reporting.methods import paragraph
from alphaecoli.reporting.page import render
from alphaecoli.reporting.run import read_run
from alphaecoli.tracks.process import process_data
from alphaecoli.training.run import train_on
from tests import toy
from tests.inference import standin
from tests.training.small import WINDOW_BP, stand_in, tiny_config

ODD = "</script><b>&amp;\"'"  # a gene's name that would end a script
STEPS = 4


class OneTrack(standin.StandIn):
  """Outputs of one expression track, as a model of one would give them."""

  def __call__(self, windows, both):
    outputs = super().__call__(windows, both)
    return outputs | {"gene_expression": outputs["gene_expression"][..., :1]}


def predictor_of(store, **options) -> Predictor:
  """What stands for the trained model."""
  return Predictor(
    OneTrack(4), store.table, window_bp=standin.WINDOW_BP, margin_bp=512, batch_windows=4, **options
  )


def guess(batch):
  """Outputs between the truth and noise."""
  rng = np.random.default_rng(0)
  heads = ("gene_expression", "gene_density", "operon_membership")
  return {h: (batch[h] + rng.normal(size=batch[h].shape)).astype(np.float32) for h in heads}


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
  """The work directory of a finished run with an evaluation of its test split."""
  root = tmp_path_factory.mktemp("reporting")
  workdir = root / "run <b>"
  workdir.mkdir()
  dump = toy.write_random(root / "dump", 80_000, 3)
  config = tiny_config(
    data__dump=str(dump.dump),
    data__genome=str(dump.fasta),
    data__min_genes_per_unit=dump.min_genes_per_unit,
    train__steps=STEPS,
    checkpoint__every_steps=2,
    evaluation__every_steps=2,
    log__every_steps=1,
  )
  store = process_data(config, workdir)
  assert train_on(store, config, workdir, stand_in()) == 0
  found = evaluate_with(guess, store, "test", window_bp=WINDOW_BP, batch_windows=4)
  best = read_run(workdir, "test").best
  write_json(workdir / "evaluation_test.json", {**found.to_json(), "step": best.step})
  table = workdir / "evaluation_test_genes.tsv"
  write_genes(table, found.predictions.genes, store.table)
  return workdir


@pytest.fixture(autouse=True)
def stands_for_the_model(finished, monkeypatch):
  """The stand-in predicts."""
  store = read_run(finished, "test").store
  monkeypatch.setattr("alphaecoli.api.load_predictor", lambda path, organism: predictor_of(store))


@pytest.fixture(scope="session")
def page(finished) -> str:
  """What the command writes."""
  store = read_run(finished, "test").store
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr("alphaecoli.api.load_predictor", lambda path, organism: predictor_of(store))
    assert report.main(["--workdir", str(finished)]) == 0
  return (finished / "report.html").read_text()


@pytest.fixture(scope="session")
def odd_page(finished, tmp_path_factory) -> Path:
  """A page whose first gene of the split has an odd name, in the store and in the gene table."""
  workdir = tmp_path_factory.mktemp("odd") / "run"
  shutil.copytree(finished, workdir)
  table = workdir / "evaluation_test_genes.tsv"
  lines = table.read_text().splitlines()
  row = next(i for i, line in enumerate(lines[1:], 1) if line.split("\t")[8])  # with a measurement
  cells = lines[row].split("\t")
  name, cells[1] = cells[1], ODD.replace('"', "")  # a quote would be quoted in a TSV
  lines[row] = "\t".join(cells)
  table.write_text("\n".join(lines) + "\n")
  run = read_run(workdir, "test")
  names = [ODD if gene == name else gene for gene in run.store.genes.name]
  genes = dataclasses.replace(run.store.genes, name=np.array(names))
  vars(run.store)["genes"] = genes
  prediction = predictor_of(run.store).predict(run.store.sequence, circular=True)
  loci = choose_loci(run.store, f"{ODD},{run.store.contig}:1001-9000", "test")
  view = genome_view(run.store, prediction, 0, "test", loci)
  path = workdir / "report.html"
  path.write_text(render(run, view, "step 4", paragraph(run)), encoding="utf-8")
  return path


@pytest.fixture
def started(finished, tmp_path) -> Path:
  """A run that has just begun: no checkpoint, no figures, a line that is being written."""
  workdir = tmp_path / "run"
  shutil.copytree(finished, workdir)
  shutil.rmtree(workdir / "checkpoints")
  for name in ("evaluation_test.json", "evaluation_test_genes.tsv", "validation.json"):
    (workdir / name).unlink()
  (start,) = json.loads((workdir / "run.json").read_text())["starts"]
  start.pop("end")
  (workdir / "run.json").write_text(json.dumps({"starts": [start]}))
  lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
  (workdir / "metrics.jsonl").write_text(lines[0] + lines[1][:40])
  assert json.loads(lines[0])["step"] == 1
  return workdir
