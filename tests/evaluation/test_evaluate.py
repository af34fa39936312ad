"""The evaluation command on a run of a toy chromosome and an untrained model."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from alphaecoli import evaluate, plot
from alphaecoli.checkpoints.read import CHECKPOINTS_DIR, SCORE, load_inference
from alphaecoli.checkpoints.write import Checkpoints
from alphaecoli.config import TEST_MODE, resolve
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.evaluation import evaluator
from alphaecoli.evaluation import run as evaluation_run
from alphaecoli.files import sealed
from alphaecoli.genomics.sequence import reverse_complement
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.sharding import fold_mesh, make_mesh
from alphaecoli.schema import HEADS, MeshConfig
from alphaecoli.tracks.organisms import find_store
from tests import stores

SMALLEST = {"channels": 4, "channel_step": 2, "n_layers": 1, "n_heads": 1, "key_dim": 4}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
  """Two checkpoints of one model; that of step 1 is the better one on validation."""
  path = tmp_path_factory.mktemp("run")
  values = stores.toy_config(stores.toy.write_random(path / "dump", 80_000, 0)).to_dict()
  for key, value in TEST_MODE.items():
    section, name = key.split(".")
    if section == "model":
      values[section][name] = SMALLEST.get(name, value)
  values["log"]["compilation_cache"] = False
  config = resolve(values)
  store = stores.process_data(config, path)
  mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
  params, stats = FunctionalModel.of_model(config.model, store.table).init(0, mesh)
  meta = {
    "config": config.to_dict(),
    "table": store.table.to_json(),
    "store_fingerprint": store.fingerprint,
  }
  items = {"params": params, "stats": stats, "train": {"step": jnp.zeros((), jnp.int32)}}
  with Checkpoints(path / CHECKPOINTS_DIR, keep_last=2, keep_best=1) as checkpoints:
    for step, score in ((1, 0.5), (2, 0.7)):
      checkpoints.save(step, items, meta, score)
    checkpoints.wait()
  return path


def test_the_command_prints_the_table_and_writes_json_and_genes(workdir, capsys):
  assert evaluate.main(["--workdir", str(workdir), "--split", "test"]) == 0
  printed = capsys.readouterr().out
  assert printed.startswith("step 1, test split, 8,000 bases\n")
  found = json.loads((workdir / "evaluation_test.json").read_text())
  assert found["step"] == 1 and found["split"] == "test"
  names = list(found["metrics"])
  assert all(name in printed for name in names) and SCORE in names
  lines = (workdir / "evaluation_test_genes.tsv").read_text().splitlines()
  rows = list(csv.DictReader(lines, delimiter="\t"))
  genes = stores.process_data(_config(workdir), workdir).genes
  inside = {str(g) for g, s in zip(genes.gene_id, genes.split, strict=True) if s == "test"}
  assert {row["gene_id"] for row in rows} == inside
  observed = {str(g): v for g, v in zip(genes.gene_id, genes.log_tpm[:, 0], strict=True)}
  for row in rows:
    value = observed[row["gene_id"]]
    text = row["observed_log_tpm:mean"]
    assert (text == "") == bool(np.isnan(value))
    assert text == "" or float(text) == pytest.approx(value, abs=1e-4)


@pytest.mark.filterwarnings("ignore:sequence should be at least")  # Prodigal's
def test_the_command_prints_and_writes_rivals_when_asked(workdir, capsys):
  pytest.importorskip("pyrodigal")
  assert evaluate.main(["--workdir", str(workdir), "--rivals"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[1].split() == ["metric", "model", "baseline", "rule", "fitted", "trees", "n"]
  found = json.loads((workdir / "evaluation_test.json").read_text())
  ridge = found["rivals"]["codon_ridge"]["metrics"]["gene_expression/genes_r2"]
  assert ridge["n"] == found["metrics"]["gene_expression/genes_r2"]["n"]
  line = next(line for line in lines if line.startswith("gene_expression/genes_r2 "))
  assert line.split()[4] == f"{ridge['value']:.4f}"


def test_the_command_measures_the_mean_of_both_strands_when_asked(workdir):
  assert evaluate.main(["--workdir", str(workdir), "--reverse-complement-average"]) == 0
  found = json.loads((workdir / "evaluation_test.json").read_text())
  mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
  loaded = load_inference(workdir, mesh=mesh)
  config, table = loaded.config, loaded.table
  assert found["both_strands"] and not config.evaluation.both_strands
  functional = FunctionalModel.of_model(config.model, table)
  values = functional.split(loaded.model)
  swaps = {"gene_structure": [4, 5, 6, 7, 0, 1, 2, 3], "operon_junction": [1, 0]}

  def both(batch):
    reverse = np.stack([reverse_complement(row) for row in batch["sequence"]])
    ahead, other = (
      predict(*values, {**batch, "sequence": s}) for s in (batch["sequence"], reverse)
    )
    mean = {}
    for name, head in HEADS.items():
      a, b = (np.asarray(x, np.float64) for x in (ahead[name], other[name][:, ::-1]))
      b = b[..., swaps.get(name, [0])]
      if head.output == "sigmoid":
        mean[name] = special.logit((special.expit(a) + special.expit(b)) / 2)
      else:
        mean[name] = (a + b) / 2
    return mean

  with jax.set_mesh(mesh):
    predict = evaluator.make_predict(functional, mesh)
    store = find_store(loaded.meta, workdir)
    expected = evaluator.evaluate_on(mesh, both, store, "test", config, table).scalars()
    single = evaluator.evaluate_on(
      mesh, lambda batch: predict(*values, batch), store, "test", config, table
    ).scalars()
  for name, value in expected.items():
    assert found["metrics"][name]["model"] == pytest.approx(value, rel=1e-4, abs=1e-6), name
  assert single[SCORE] != pytest.approx(expected[SCORE], rel=1e-4)


def _config(workdir: Path):
  meta = json.loads((workdir / CHECKPOINTS_DIR / "1" / "meta" / "metadata").read_text())
  return resolve(meta["config"])


def test_checkpoints_are_chosen_by_name_or_step(workdir):
  assert evaluation_run.choose_checkpoint(workdir, "best") == (workdir, "best")
  assert evaluation_run.choose_checkpoint(workdir, "last") == (workdir, "latest")
  assert evaluation_run.choose_checkpoint(workdir, "2")[0] == workdir / CHECKPOINTS_DIR / "2"
  with pytest.raises(DataError, match=r"step 7 .* there are 1, 2"):
    evaluation_run.choose_checkpoint(workdir, "7")
  with pytest.raises(ConfigError, match="expected best, last or a step"):
    evaluation_run.choose_checkpoint(workdir, "worst")


@pytest.mark.parametrize(
  ("run", "devices", "expected"),
  [
    ((-1, 1, 1), 8, (8, 1, 1)),
    ((-1, 4, 1), 8, (2, 4, 1)),
    ((2, 2, 2), 8, (2, 2, 2)),
    ((16, 4, 1), 1, (1, 1, 1)),
    ((16, 4, 4), 8, (1, 4, 2)),
    ((1, -1, 1), 6, (1, 6, 1)),
    ((1, 4, 1), 6, (3, 2, 1)),
  ],
)
def test_a_run_s_mesh_is_folded_onto_the_devices_there_are(run, devices, expected):
  assert fold_mesh(MeshConfig(*run), devices) == MeshConfig(*expected)


@pytest.fixture
def sharded(workdir, tmp_path) -> Path:
  """The same run, had it been trained with parameters split over four devices."""
  shutil.copytree(workdir, tmp_path / "sharded")
  for step in ("1", "2"):
    file = tmp_path / "sharded" / CHECKPOINTS_DIR / step / "meta" / "metadata"
    meta = json.loads(file.read_text())
    meta["config"]["mesh"] = {"data": -1, "fsdp": 4, "sequence": 2}
    file.write_text(json.dumps(sealed(meta)))
  return tmp_path / "sharded"


def test_parameters_are_split_as_in_the_run(sharded):
  mesh = evaluation_run.mesh_of(sharded, "best")
  assert dict(mesh.shape) == {"data": 1, "fsdp": 4, "sequence": 2}
  model = load_inference(sharded, mesh=mesh).model
  kernel = model.tower.layers[0].mlp.expand.kernel[...]
  assert kernel.addressable_shards[0].data.nbytes == kernel.nbytes // 4


@pytest.mark.slow
def test_figures_do_not_depend_on_the_mesh(workdir, sharded):
  for path in (workdir, sharded):
    assert evaluate.main(["--workdir", str(path)]) == 0
  one, other = (
    json.loads((path / "evaluation_test.json").read_text()) for path in (workdir, sharded)
  )
  assert one["n_bases"] == other["n_bases"] > 0
  for name, figure in one["metrics"].items():
    assert other["metrics"][name]["n"] == figure["n"], name
    assert other["metrics"][name]["model"] == pytest.approx(figure["model"], rel=1e-4), name


def test_a_store_that_is_gone_is_built_again_and_changed_inputs_are_refused(workdir, tmp_path):
  config = _config(workdir)
  here = stores.process_data(config, workdir)
  meta = {"config": config.to_dict(), "store_fingerprint": here.fingerprint}
  assert find_store(meta, workdir).path == here.path
  again = find_store(meta, tmp_path, build_with=config)
  assert again.path.parent == tmp_path / "tracks" and again.fingerprint == here.fingerprint
  shutil.rmtree(again.path)
  other = stores.toy.write_random(tmp_path / "dump", 80_000, 1)
  data = dataclasses.replace(config.data, dump=str(other.dump), genome=str(other.fasta))
  with pytest.raises(DataError, match="built from other data than the checkpoint's"):
    find_store(meta, tmp_path, build_with=dataclasses.replace(config, data=data))


def test_damaged_stores_beside_the_run_s_own_disturb_no_command(workdir, tmp_path):
  copy = tmp_path / "run"
  shutil.copytree(workdir, copy)
  stores.damage_beside(copy / "tracks")
  assert evaluate.main(["--workdir", str(copy)]) == 0
  drawn = ["--region=0-4000", "--out", str(tmp_path / "x.png")]
  assert plot.main(["--workdir", str(copy), *drawn]) == 0
