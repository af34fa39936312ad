"""Small folders of models: values, damage, names, cards; the shipped model; the wheel."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

import alphaecoli
from alphaecoli import models
from alphaecoli.checkpoints.packed import GENOMES, SHIPPED, pack, scrubbed, shipped_models, unpack
from alphaecoli.checkpoints.read import find_ensemble, load_inference, read_ensemble, read_meta
from alphaecoli.checkpoints.write import write_ensemble
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import DEFAULT_MODEL, read_json
from alphaecoli.genomics.sequence import read_fasta, reverse_complement
from alphaecoli.inference.prediction import TRACK_HEADS
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.tracks.exposure import embedded_genomes
from alphaecoli.tracks.splits import hash_genome
from tests.inference.runs import WINDOW_BP, save_run, tiny_model

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(2)
CODES = RNG.integers(0, 4, WINDOW_BP).astype(np.uint8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Two untrained runs, and the file of their ensemble."""
  folder = tmp_path_factory.mktemp("runs")
  for seed in (1, 2):
    save_run(folder / f"fold_{seed}", tiny_model(seed))
  write_ensemble(folder, [folder / "fold_1", folder / "fold_2"])
  return folder


@pytest.fixture(scope="module")
def exported(runs, tmp_path_factory):
  out = tmp_path_factory.mktemp("out") / "mine"
  flags = ["--checkpoint", str(runs), "--out", str(out), "--margin-bp", "512", "--members", "1"]
  assert models.main(["export", *flags]) == 0
  return out


def shipped_members():
  return read_ensemble(find_ensemble(SHIPPED / DEFAULT_MODEL))


def values_of(path):
  loaded = load_inference(path)
  functional = FunctionalModel.of_model(loaded.config.model, loaded.table, loaded.model.heads)
  return functional.split(loaded.model)


def test_kernels_lose_half_a_step_of_their_type_and_nothing_else_changes():
  values = {
    "params": {"a/kernel": RNG.normal(size=(3, 5, 7)), "a/bias": RNG.normal(size=7)},
    "stats": {"a/mean_square": RNG.normal(size=(2, 4))},
  }
  values = {
    item: {n: v.astype(np.float32) for n, v in named.items()} for item, named in values.items()
  }
  values["params"]["a/kernel"][..., 3] = 0
  kernel = values["params"]["a/kernel"]
  for precision, step in (
    ("int8", np.abs(kernel).max(axis=(0, 1)) / 254),
    ("int7", np.abs(kernel).max(axis=(0, 1)) / 126),
    ("bfloat16", np.abs(kernel) * float(ml_dtypes.finfo(ml_dtypes.bfloat16).eps) / 2),
    ("float32", 0.0),
  ):
    arrays = pack(values, precision)
    assert all(array.dtype.kind in "fiu" for array in arrays.values())
    found = unpack(arrays)
    assert found.keys() == {"params/a/kernel", "params/a/bias", "stats/a/mean_square"}
    assert (np.abs(found["params/a/kernel"] - kernel) <= step * 1.001).all()
    np.testing.assert_array_equal(found["params/a/bias"], values["params"]["a/bias"])
    np.testing.assert_array_equal(found["stats/a/mean_square"], values["stats"]["a/mean_square"])
  with pytest.raises(ConfigError, match="precision 'int4'; expected one of int8, int7, bfloat16"):
    pack(values, "int4")


def test_no_path_leaves_the_machine_and_new_entries_do():
  meta = {
    "config": {
      "data": {"store_dir": "/home/me/tracks", "dump": "../dump/"},
      "init": {"freeze": "x"},
    },
    "init": {"path": "C:\\runs\\old", "sha256": "abc"},
    "loop": {"best": 1.0},
    "data": {"next_step": 3},
    "gene_models": {"NC_1": {"version": 1, "unit": "counts/base", "weights": [1, 2.5, None]}},
    "step": 7,
  }
  found = scrubbed(meta)
  assert found.keys() == {"config", "init", "gene_models", "step"}
  assert found["config"]["data"] == {"store_dir": "tracks", "dump": "dump"}
  assert found["config"]["init"]["freeze"] == ""
  assert found["init"] == {"path": "old", "sha256": "abc"}
  assert found["gene_models"] == meta["gene_models"]


def test_an_exported_ensemble_is_taken_where_a_checkpoint_is(runs, exported):
  for fold in ("fold_1", "fold_2"):
    (params, stats), (ours, theirs) = values_of(runs / fold), values_of(exported / fold)
    for name, value in params.items():
      np.testing.assert_allclose(ours[name], value, atol=np.abs(value).max() / 250, err_msg=name)
    for name, value in stats.items():
      np.testing.assert_array_equal(theirs[name], value)
  assert "loop" not in read_meta(exported / "fold_1")
  one = jax.local_devices()[0]
  model = alphaecoli.load_predictor(exported, device=one)
  assert model.margin_bp == 512 and model.member_names == ("fold_1", "fold_2")
  assert not model.has_spread  # one member a base, by default
  both = alphaecoli.load_predictor(exported, device=one, members="all")
  alone = [alphaecoli.load_predictor(exported / f"fold_{n}", device=one) for n in (1, 2)]
  first, second = (member.predict(CODES) for member in alone)
  found = both.predict(CODES)
  for head in TRACK_HEADS:
    a, b = getattr(first, head), getattr(second, head)
    np.testing.assert_array_equal(getattr(model.predict(CODES), head), a)
    np.testing.assert_allclose(getattr(found, head), (a + b) / 2, rtol=1e-5, atol=1e-6)
  with pytest.raises(ConfigError, match="members=some; expected a number from 1 on, or all"):
    alphaecoli.load_predictor(exported, device=one, members="some")


def test_one_checkpoint_is_exported_as_one_and_an_export_again(runs, exported, tmp_path):
  models.main(["export", "--checkpoint", str(runs / "fold_1"), "--out", str(tmp_path / "one")])
  again = ["--checkpoint", str(tmp_path / "one"), "--out", str(tmp_path / "two")]
  models.main(["export", *again])
  contents = [(tmp_path / n / "weights.npz").read_bytes() for n in ("one", "two")]
  assert contents[0] == contents[1] == (exported / "fold_1" / "weights.npz").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "altered", "missing", "pickle"])
def test_damaged_weights_are_one_line(runs, tmp_path, damage):
  models.main(["export", "--checkpoint", str(runs / "fold_1"), "--out", str(tmp_path)])
  file = tmp_path / "weights.npz"
  content = bytearray(file.read_bytes())
  if damage == "missing":
    file.unlink()
  elif damage == "pickle":
    np.savez(file, **{"params/x": np.array([{}], object)})
  else:
    content[len(content) // 2] ^= 1
    file.write_bytes(content[:-1] if damage == "cut" else content)
  with pytest.raises(DataError) as error:
    load_inference(tmp_path)
  assert "weights.npz" in str(error.value) and "\n" not in str(error.value)


def test_a_name_is_a_shipped_model_unless_there_is_such_a_path(monkeypatch, tmp_path, runs, capsys):
  monkeypatch.chdir(tmp_path)
  assert DEFAULT_MODEL in shipped_models()
  with pytest.raises(DataError, match=r"no checkpoint: k13 is not a directory, nor .* are: k12"):
    alphaecoli.load_predictor("k13")
  (tmp_path / DEFAULT_MODEL).symlink_to(runs / "fold_1")
  path = alphaecoli.load_predictor(DEFAULT_MODEL).about["checkpoint"]
  assert path == f"{DEFAULT_MODEL}/checkpoints/7"
  models.main(["--folder", str(runs)])
  head, *rows = capsys.readouterr().out.splitlines()
  assert head.split() == ["model", "members", "organisms", "heads", "MB", "path"]
  assert [row.split()[:2] for row in rows if str(runs) in row] == [
    [runs.name, "2"], ["fold_1", "1"], ["fold_2", "1"],
  ]  # fmt: skip


def test_the_shipped_model_is_small_whole_and_knows_no_path_of_a_machine():
  folder = SHIPPED / DEFAULT_MODEL
  assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 25e6
  members = shipped_members()
  beside = [contig for file in (folder / GENOMES).iterdir() for contig in read_fasta(file)]
  genomes = {*embedded_genomes(), *(hash_genome(contig.codes) for contig in beside)}
  for member in members:
    meta = read_meta(member)
    assert {entry["genome_sha256"] for entry in meta["trained_on"]} == genomes
    assert meta["gene_models"]
    digest = hashlib.sha256((member / "weights.npz").read_bytes()).hexdigest()
    assert digest == meta["weights"]["sha256"]
  for file in folder.rglob("*"):
    if file.suffix not in (".npz", ".gz") and file.is_file():
      text = file.read_text()
      assert not any(f'"{start}' in text for start in ("/", "~", "../")), file


def test_its_card_is_the_page_and_holds_what_its_members_say():
  card = read_json(SHIPPED / DEFAULT_MODEL / models.CARD)
  assert models.markdown(card) == (ROOT / "docs" / "model_card.md").read_text(encoding="utf-8")
  members = shipped_members()
  assert [m["name"] for m in card["members"]] == [member.name for member in members]
  assert [m["trained_on"] for m in card["members"]] == [
    read_meta(member)["trained_on"] for member in members
  ]
  folds = [m["fold"] for m in card["members"]]
  assert folds == card["figures"]["folds"] and len(set(folds)) == len(folds)
  assert card["notes"].keys() == {"description", *models.NOTES}


def test_the_shipped_model_predicts_a_piece_of_k12_by_the_member_that_has_not_seen_it():
  (codes,) = embedded_genomes().values()
  start = round(4 * len(codes) / 20) + 30_000  # block 4 of 20: the test split of fold 3
  piece = reverse_complement(codes[start : start + 3_000])
  options = {"device": jax.local_devices()[0], "window_bp": 2048}
  model = alphaecoli.load_predictor(**options)
  found = model.predict(piece)
  used = np.flatnonzero(found.origin.by.any(axis=1))
  assert [model.member_names[n] for n in used] == ["fold_3"] and not found.origin.seen.any()
  assert not found.members and model.is_out_of_fold(piece)
  expected = model.members[used[0]].predict(piece)
  np.testing.assert_allclose(found.gene_expression, expected.gene_expression, atol=1e-4)


def test_what_is_missing_is_said():
  with pytest.raises(ConfigError, match="give --checkpoint and --out"):
    models.main(["export"])


def test_a_model_without_a_card_says_so(runs):
  with pytest.raises(DataError, match=r"has no model_card\.json; alphaecoli\.models export"):
    models.main(["card", "--checkpoint", str(runs)])


def test_the_wheel_has_the_weights(tmp_path):
  command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
  subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
  (wheel,) = tmp_path.glob("*.whl")
  with zipfile.ZipFile(wheel) as archive:
    names = set(archive.namelist())
    listed = json.loads(archive.read(f"alphaecoli/pretrained/{DEFAULT_MODEL}/ensemble.json"))
  for member in listed["members"]:
    assert f"alphaecoli/pretrained/{DEFAULT_MODEL}/{member}/weights.npz" in names
    assert f"alphaecoli/pretrained/{DEFAULT_MODEL}/{member}/meta/metadata" in names


def test_the_sdist_installs_and_works_outside_the_repository(tmp_path):
  """Its wheel is built by pip from the sdist alone; dependencies are those of the tests."""
  site, here = tmp_path / "site", tmp_path / "read_only"
  here.mkdir(mode=0o555)

  def run(*command, cwd=here):
    env = {**os.environ, "PYTHONPATH": str(site), "JAX_PLATFORMS": "cpu"}
    call = [sys.executable, *map(str, command)]
    return subprocess.run(call, cwd=cwd, env=env, check=True, capture_output=True, text=True).stdout

  run("-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=ROOT)
  (sdist,) = tmp_path.glob("*.tar.gz")
  pip = ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]
  run(*pip, "--target", site, sdist, cwd=tmp_path)
  script = site / "bin" / "alphaecoli"
  assert "alphaecoli" in run(script, "--version")
  assert DEFAULT_MODEL in run(script, "models")
  assert "data.window_bp" in run("-m", "alphaecoli.config")
  text = (
    "import alphaecoli; model = alphaecoli.load_predictor(); "
    "print(alphaecoli.__file__, len(model.members), model.window_bp)"
  )
  file, members, window_bp = run("-c", text).split()
  assert Path(file).is_relative_to(site)
  assert (int(members), int(window_bp)) == (len(shipped_members()), 16_384)
  assert not list(here.iterdir())
