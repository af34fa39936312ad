"""What stands in the page is what stands in the files of the run."""

import csv
import dataclasses
import importlib.resources
import json
import shutil
from pathlib import Path

import pytest

from alphaecoli import config, predict, report
from alphaecoli.checkpoints.read import hash_checkpoint
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import hash_file
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.regulondb.dump import builtin_dump
from alphaecoli.reporting import page as page_module
from alphaecoli.reporting import sections as tables
from alphaecoli.reporting.methods import paragraph
from alphaecoli.reporting.run import Evaluation, read_run
from tests import stores
from tests.reporting.conftest import ODD, predictor_of
from tests.reporting.parse import Page


def table_of(page: Page, start: str) -> list[list[str]]:
  (found,) = [rows for caption, rows in page.tables.items() if caption.startswith(start)]
  return found


def read(workdir, name):
  return json.loads((workdir / name).read_text())


def test_every_figure_of_the_evaluation_stands_in_the_table_beside_its_baseline(page, finished):
  metrics = read(finished, "evaluation_test.json")["metrics"]
  rows = {row[-1]: row for row in table_of(Page(page), "Held-out figures")[1:]}
  assert list(rows) == list(metrics)
  for name, figure in metrics.items():
    model, baseline, _, n, over = rows[name][1:6]
    for text, value in ((model, figure["model"]), (baseline, figure["baseline"])):
      if value is None:
        assert text == "–"
      else:
        assert float(text.replace("−", "-")) == pytest.approx(value, abs=5.1e-5)
    assert (n, over) == (f"{figure['n']:,}", figure["over"])


@pytest.mark.parametrize(
  ("value", "text"), [(0.12345, "0.12"), (-0.5, "−0.50"), (-0.001, "0.00"), (None, "–")]
)
def test_numbers_have_no_negative_zero(value, text):
  assert tables.decimals(value, 2) == text


def test_changed_keys_come_first_beside_the_values_of_the_base(page, finished):
  tables = Page(page).tables
  changed = {row[0]: row for row in tables["Changed keys"][1:]}
  same = {row[0] for row in tables["As in configs/base.py"][1:]}
  assert set(config.key_names()) == set(changed) | same and not set(changed) & same
  assert changed["train.steps"][1:3] == ["4", "20000"]
  assert changed["train.steps"][3] == "optimiser steps"
  assert "optimizer.beta2" in same
  assert list(tables).index("Changed keys") < list(tables).index("As in configs/base.py")


def test_the_quality_report_is_there_by_reason(finished):
  report_ = QualityReport()
  report_.total("genes", 4000)
  report_.count("gene without positions", 20, example="EG1")
  report_.count("value that is no <number>", 3, example="x", dataset="heat")
  report_.count("rare", 1)
  quality = report_.to_json()
  parsed = Page(tables.quality(quality))
  counts = {row[0]: row[1] for row in table_of(parsed, "Skipped or repaired")[1:]}
  assert counts == {k: f"{v['count']:,}" for k, v in quality["problems"].items()}
  assert dict(table_of(parsed, "Records read")) == {"genes": "4,000"}


def test_the_quality_report_of_the_page_is_the_stores(page, finished):
  quality = read_run(finished, "test").store.quality
  assert quality["totals"] and tables.quality(quality) in page


def test_curves_are_the_records_of_the_run(page, finished):
  lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
  panels = Page(page).data["curves"]["panels"]
  assert [p["name"] for p in panels] == [
    "gene expression", "gene density", "operon membership", "gene structure", "operon junction",
    "total loss",
  ]  # fmt: skip
  total = panels[-1]
  assert total["train"] == [
    [r["step"], r["mean_loss/total"]] for r in lines if r["kind"] == "train"
  ]
  validation = [[r["step"], r["loss/total"]] for r in lines if r["kind"] == "validation"]
  assert total["validation"] == validation and len(validation) == 2


def test_calibration_and_scatter_are_those_of_the_evaluation(page, finished):
  data, found = Page(page).data, read(finished, "evaluation_test.json")
  assert {k: data["calibration"][k] for k in found["calibration"]} == found["calibration"]
  error = found["metrics"]["operon_membership/calibration_error"]["model"]
  assert data["calibration"]["error"] == error
  with (finished / "evaluation_test_genes.tsv").open(newline="") as file:
    rows = list(csv.DictReader(file, dialect="excel-tab"))
  (track,) = data["scatter"]
  measured = [r for r in rows if r["observed_log_tpm:mean"]]
  assert 0 < len(measured) == len(track["name"])
  assert track["name"] == [r["name"] for r in measured]
  assert track["predicted"] == [float(r["predicted_log_tpm:mean"]) for r in measured]
  assert track["r2"] == found["metrics"]["gene_expression/genes_r2"]["model"]


def test_the_methods_paragraph_says_what_the_files_of_the_run_say(page, finished):
  text = (finished / "methods.txt").read_text()
  assert text.count("\n") == 1 and tables.escape(text.strip()) in page
  (start,) = read(finished, "run.json")["starts"]
  assert all(f"{name} {number}" in text for name, number in start["versions"].items())
  assert all(f"{f['name']} {f['sha256']}" in text for f in start["inputs"].values())
  settings = read(finished, "config.json")
  assert f"4 steps of {settings['train']['batch_windows']} windows" in text
  assert f"windows of {settings['data']['window_bp']:,} bp" in text
  assert "of equal length, the first of them 0.5 blocks after the first base, dealt" in text
  step = read(finished, "evaluation_test.json")["step"]
  digest = hash_checkpoint(finished / "checkpoints" / str(step))
  assert f"checkpoint of step {step}, the best on validation (SHA-256 {digest})" in text
  metric = read(finished, "evaluation_test.json")["metrics"]["gene_density/r2"]
  model, baseline = (f"{metric[of]:.3f}".replace("-", "−") for of in ("model", "baseline"))
  assert f"genes per 128 bp, R² {model} (training mean {baseline})" in text
  assert "s41586-025-10014-0" in text and "gkad1072" in text  # AlphaGenome, RegulonDB
  assert "EcoCyc" not in text and "Prodigal" not in text  # not of this run


def test_methods_of_a_fold_give_deviations_over_folds_and_cite_prodigal(finished, tmp_path):
  workdir = tmp_path / f"fold_{read(finished, 'config.json')['data']['fold']}"
  shutil.copytree(finished, workdir)
  data = read(finished, "config.json")["data"]

  def gathered(split):
    entry = {
      "over": "bins",
      "model": {"mean": 0.34, "std": 0.0364},
      "baseline": {"mean": -0.001, "std": None},
      "prodigal_density": {"mean": 0.5728, "std": 0.0994},
    }
    found = {"split": split, "n_folds": data["n_folds"], "folds": [data["fold"]]}
    metrics = {"gene_density/r2": entry}
    found |= {"baselines": {"gene_density": "training mean"}, "metrics": metrics}
    (tmp_path / "crossvalidation.json").write_text(json.dumps(found))
    return paragraph(read_run(workdir, "test"))

  text = gathered("test")
  expected = "R² 0.340 ± 0.036 (training mean −0.001, prodigal_density 0.573 ± 0.099)"
  assert expected in text and f"1 of {data['n_folds']} folds" in text
  assert "Rules: prodigal_density (number of" in text and "Hyatt et al. 2010" in text
  assert "±" not in gathered("validation")


def test_methods_of_a_run_without_figures_claim_none(started):
  text = paragraph(read_run(started, "test"))
  assert "has not been measured yet" in text
  assert "The checkpoint of step" not in text


def test_methods_name_the_sources_of_the_embedded_data(finished):
  run = read_run(finished, "test")
  files = [p for p in builtin_dump().rglob("*.gz") if "metadata" not in p.name]
  assert len(files) == 5
  inputs = {p.name: {"name": p.name, "sha256": hash_file(p)} for p in files}
  several = {"K-12": inputs, "other": {"genome": {"name": "x.fna", "sha256": "0" * 64}}}
  start = {**run.starts[-1], "inputs": several, "organisms": [{"name": "K-12"}, {"name": "other"}]}
  text = paragraph(dataclasses.replace(run, starts=(start,)))
  assert "trained on K-12 and other" in text and f"x.fna {'0' * 64}" in text
  assert all(word in text for word in ("EcoCyc", "vEcoli", "PRECISE-278", "NC_000913.3"))


def test_the_page_loads_nothing(page):
  parsed = Page(page)
  assert all(target.startswith(("#", "data:")) for _, target in parsed.loads)
  assert not {"iframe", "img", "object", "embed"} & set(parsed.tags)
  assert "default-src 'none'" in page
  assert "@import" not in page and "url(" not in page


def test_odd_names_stay_text(odd_page):
  text = odd_page.read_text()
  parsed = Page(text)  # fails to read the JSON where a name ends the script
  assert parsed.tags.count("script") == 2 and "b" not in parsed.tags
  assert ODD in parsed.data["view"]["genes"]["name"]
  assert parsed.data["view"]["loci"][0]["label"] == ODD
  assert ODD.replace('"', "") in parsed.data["scatter"][0]["name"]


def test_a_directory_with_an_odd_name_stays_text(page):
  assert "run &lt;b&gt;" in page and "run <b>" not in page


def test_predictions_from_files_give_the_same_tracks(finished, page, tmp_path, monkeypatch):
  run = read_run(finished, "test")
  fasta = read(finished, "config.json")["data"]["genome"]
  arguments = ["--checkpoint", str(run.best.path), "--fasta", fasta, "--circular", "all"]
  folder, out = tmp_path / "predictions", tmp_path / "new" / "page.html"
  about = {"checkpoint": str(run.best.path), "step": run.best.step}
  predictor = predictor_of(run.store, about=about)
  monkeypatch.setattr("alphaecoli.api.load_predictor", lambda *a, **k: predictor)
  assert predict.main([*arguments, "--out", str(folder)]) == 0
  flags = ["--workdir", str(finished), "--predictions", str(folder), "--out", str(out)]
  assert report.main(flags) == 0
  view, expected = (Page(text).data["view"] for text in (out.read_text(), page))
  assert view["predicted"].keys() == expected["predicted"].keys() != set()
  for head, layer in expected["predicted"].items():
    assert view["predicted"][head]["high"] == pytest.approx(layer["high"], rel=1e-5)
    assert len(view["predicted"][head]["segments"]) == len(layer["segments"])
  assert view["genes"]["predicted"] == pytest.approx(expected["genes"]["predicted"], abs=2e-3)
  manifest = read(folder, "predictions.json")
  manifest["model"]["step"] = 77
  (folder / "predictions.json").write_text(json.dumps(manifest))
  with pytest.raises(DataError, match="step 77"):
    report.main(flags)


def test_a_run_that_has_just_begun_has_a_page_that_says_what_is_missing(started, caplog):
  caplog.set_level("WARNING", "alphaecoli")
  assert report.main(["--workdir", str(started), "--loci", "b0010"]) == 0
  parsed = Page((started / "report.html").read_text())
  command = f"python -m alphaecoli.evaluate --workdir {started} --split test"
  assert any(command in note for note in parsed.notes)
  data = parsed.data
  assert data["view"]["predicted"] == {} and data["scatter"] == [] and data["calibration"] is None
  assert command in data["reasons"]["scatter"] and command in data["reasons"]["calibration"]
  assert "no checkpoint" in data["reasons"]["gene_expression"]
  assert len(data["curves"]["panels"][-1]["train"]) == 1  # the broken line is left out
  assert dict(table_of(parsed, "Run"))["state"] == "at step 1 of 4, running or killed"
  assert table_of(parsed, "Starts of the run")[-1][-1] == "no record: running, or killed"
  assert len(data["view"]["genes"]["name"]) > 10


def test_validation_figures_of_the_training_serve_where_there_are_no_others(finished, tmp_path):
  out = tmp_path / "page.html"
  flags = ["--workdir", str(finished), "--split", "validation", "--out", str(out)]
  assert report.main(flags) == 0
  parsed = Page(out.read_text())
  (caption,) = [c for c in parsed.tables if c.startswith("Held-out figures")]
  assert "validation split" in caption and caption.endswith("(validation.json)")
  assert parsed.data["calibration"]["n"]
  assert "--split validation" in parsed.data["reasons"]["scatter"]


def test_figures_of_another_step_are_pointed_out(finished, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(finished, workdir)
  value = read(workdir, "evaluation_test.json")
  value["step"] = 999
  (workdir / "evaluation_test.json").write_text(json.dumps(value))
  assert report.main(["--workdir", str(workdir)]) == 0
  notes = Page((workdir / "report.html").read_text()).notes
  assert any("The figures are of step 999" in note for note in notes)


def test_a_head_without_weight_is_absent_and_the_page_says_why(finished, tmp_path, monkeypatch):
  workdir = tmp_path / "run"
  shutil.copytree(finished, workdir)
  value = read(workdir, "config.json")
  value["loss"]["weights"]["operon_membership"] = 0.0
  (workdir / "config.json").write_text(json.dumps(value))
  evaluation = read(workdir, "evaluation_test.json")
  evaluation["skipped"] = {"operon_membership": "its loss weight is 0"}
  evaluation["calibration"] = None
  names = [n for n in evaluation["metrics"] if "operon" not in n]
  evaluation["metrics"] = {n: evaluation["metrics"][n] for n in names}
  (workdir / "evaluation_test.json").write_text(json.dumps(evaluation))

  heads = ("gene_expression", "gene_density")
  store = read_run(workdir, "test").store
  predictor = predictor_of(store, trained_heads=heads)
  monkeypatch.setattr("alphaecoli.api.load_predictor", lambda path, organism: predictor)
  assert report.main(["--workdir", str(workdir)]) == 0
  parsed = Page((workdir / "report.html").read_text())
  assert set(parsed.data["view"]["predicted"]) == {"expression", "density"}
  assert "its loss weight is 0" in parsed.data["reasons"]["operon_membership"]
  assert "its loss weight is 0" in parsed.data["reasons"]["calibration"]
  assert any("operon membership: no figures" in note for note in parsed.notes)


def test_each_start_of_a_run_stands_there_with_its_end(finished, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(finished, workdir)
  (start,) = read(workdir, "run.json")["starts"]
  stopped = {**start, "end": {**start["end"], "status": 75, "step": 2}}
  again = {**start, "step": 2}
  for starts, words in (([stopped], "stopped after step 4 of 4"), ([stopped, again], "finished")):
    (workdir / "run.json").write_text(json.dumps({"starts": starts}))
    assert report.main(["--workdir", str(workdir)]) == 0
    parsed = Page((workdir / "report.html").read_text())
    assert dict(table_of(parsed, "Run"))["state"].startswith(words)
    rows = table_of(parsed, "Starts of the run")[1:]
    assert [row[1:3] for row in rows] == [["0", "2"], ["2", "4"]][: len(starts)]
    assert rows[0][-1] == "stopped, exit status 75"


def test_wrong_arguments_are_one_line(finished, tmp_path):
  base = ["--workdir", str(finished), "--out", str(tmp_path / "x.html")]
  with pytest.raises(ConfigError, match="--track heat: not in the store; it has mean"):
    report.main([*base, "--track", "heat"])
  with pytest.raises(ConfigError, match="no gene of that name"):
    report.main([*base, "--loci", "thrZ"])
  with pytest.raises(DataError, match=r"no run \(there is no run.json\)"):
    report.main(["--workdir", str(tmp_path)])
  (tmp_path / "run.json").write_text("{}")
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(DataError, match="has no starts of a run"):
    report.main(["--workdir", str(tmp_path)])


@pytest.mark.parametrize(
  ("bases", "words"),
  [
    (100, "base by base in the test split and the chosen loci, as means over 32 bp elsewhere"),
    (9_000_000, "as means over 4 bp in the test split and the chosen loci, as means over 32 bp"),
    (90_000_000, "as means over 32 bp"),
  ],
)
def test_the_page_says_how_finely_it_holds_predictions(bases, words):
  assert page_module.resolution([(0, bases)], "test").startswith(words)


def test_every_file_of_the_page_is_in_the_package():
  folder = importlib.resources.files("alphaecoli.reporting") / "assets"
  for name in (*page_module.SCRIPTS, page_module.STYLE, page_module.TEMPLATE):
    assert folder.joinpath(name).is_file(), name


def test_a_damaged_store_beside_the_run_s_own_does_not_disturb_the_page(finished, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(finished, workdir)
  stores.damage_beside(workdir / "tracks")
  assert report.main(["--workdir", str(workdir)]) == 0


def test_every_track_has_its_own_metrics_beside_its_scatter(finished):
  gene = {"name": "lacZ", "locus_tag": "b0344"}
  for track in ("rich", "minimal"):
    gene |= {f"observed_log_tpm:{track}": "2", f"predicted_log_tpm:{track}": "1"}
  values = {"rich": 0.25, "minimal": 0.5}
  metrics = {f"gene_expression/genes_r2/{track}": {"model": r2} for track, r2 in values.items()}
  evaluation = Evaluation(Path(), {"metrics": metrics}, (gene,))
  run = dataclasses.replace(read_run(finished, "test"), evaluation=evaluation)
  found = page_module._scatter(run)
  assert {entry["track"]: entry["r2"] for entry in found} == values
