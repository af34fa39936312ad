"""Work directories in a bucket: the clients that are used there, against a bucket on this machine.

Arrays go through tensorstore's own driver of Google Cloud Storage, all else through etils and
gcsfs; only the server is a stand-in (tests/bucket.py).
"""

import json
import logging
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath

from alphaecoli import crossvalidate, evaluate, files, load_predictor, predict, score, train, verify
from alphaecoli.checkpoints import read
from alphaecoli.checkpoints.arrays import COMMITTED, is_complete
from alphaecoli.checkpoints.write import Checkpoints, write_ensemble
from alphaecoli.errors import ConfigError, DataError, UserError
from alphaecoli.evaluation import fold_metrics, folds
from alphaecoli.files import as_path, atomic_write, copy_folder
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.model.layers import Keys
from alphaecoli.schema import HEADS
from alphaecoli.tracks.organisms import find_store, open_organisms
from alphaecoli.tracks.process import process_data
from alphaecoli.training import run as run_module
from alphaecoli.training.checks import checkpoints_intact
from alphaecoli.training.metrics_log import RemoteLines
from alphaecoli.training.resume import EXIT_STOPPED
from tests import stores, toy
from tests.test_crossvalidate import Quick, cross_validation_arguments
from tests.training.small import save_checkpoint, stand_in, tiny_config, with_mesh
from tests.training.test_run import TIMED, _at_step

pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning",  # as in tests/training/test_run.py
  "ignore::FutureWarning:google",  # of the Python's age
)
RUN = "gs://bucket/runs/one"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
  """A bucket, and a cache of this machine for its track stores."""
  patch = pytest.MonkeyPatch()
  patch.setenv("NO_GCE_CHECK", "true")  # no credentials are looked for
  patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
  patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
  patch.setenv("ALPHAECOLI_CACHE", str(tmp_path_factory.mktemp("cache")))
  try:
    pytest.importorskip("gcsfs")
    from tests.bucket import serving

    with serving() as found:
      yield found
  finally:
    patch.undo()


@pytest.fixture(autouse=True)
def quick_model(monkeypatch):
  """Two linear layers in place of the model, which takes long to compile."""
  monkeypatch.setattr(FunctionalModel, "of_config", lambda *_: stand_in())


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
  return toy.write_random(tmp_path_factory.mktemp("dump"), 120_000, 0)


def _config(dump, **overrides):
  data = stores.toy_config(dump).data
  kept = {"dump": data.dump, "genome": data.genome, "min_genes_per_unit": data.min_genes_per_unit}
  settings = {"log__tensorboard": True, **{f"data__{k}": v for k, v in kept.items()}}
  return with_mesh(tiny_config(**{**settings, **overrides}), 8, 1)


@pytest.fixture(scope="module")
def finished(bucket, dump, tmp_path_factory):
  """Runs of 8 steps, undisturbed, in the bucket and on a disk: their directories."""
  here = tmp_path_factory.mktemp("run")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(FunctionalModel, "of_config", lambda *_: stand_in())
    for workdir in (here, as_path(RUN)):
      bucket.requests.clear()
      assert run_module.train(_config(dump), workdir) == 0
  return as_path(RUN), here


def _records(workdir):
  lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return [{k: v for k, v in line.items() if not TIMED.match(k)} for line in lines]


def _arrays(workdir, step):
  """Every array of a checkpoint, as it was written."""
  found = {}
  for item in ("params", "stats", "train"):
    with ocp.StandardCheckpointer() as reader:
      tree = reader.restore(epath.Path(workdir) / "checkpoints" / str(step) / item)
    leaves, _ = ocp.tree.to_flat_dict(tree), None
    found |= {(item, *path): np.asarray(leaf) for path, leaf in leaves.items()}
  return found


def _equal(a, b):
  assert a.keys() == b.keys() and len(a) > 20
  for name, value in a.items():
    np.testing.assert_array_equal(b[name], value, err_msg=str(name))


def test_a_run_in_a_bucket_is_the_run_on_a_disk(bucket, finished):
  there, here = finished
  _equal(_arrays(here, 8), _arrays(there, 8))
  assert _records(there) == _records(here)
  for name in ("config.json", "validation.json"):
    assert (there / name).read_text() == (here / name).read_text()
  (start,) = json.loads((there / "run.json").read_text())["starts"]
  assert (start["end"]["status"], start["end"]["step"]) == (0, 8)
  assert any("tensorboard/events" in name for name in bucket.names("bucket/runs/one"))


def test_nothing_in_a_bucket_relies_on_renames(bucket, finished):
  """They would be copies there, and files in two halves between them."""
  assert not [name for _, name in bucket.requests if "rewriteTo" in name or "copyTo" in name]
  assert not [name for _, name in bucket.requests if ".tmp" in name]
  assert not bucket.names("bucket/runs/one/writable")


def test_checkpoints_in_a_bucket_have_checksums_and_are_marked_as_complete(bucket, finished):
  there, _ = finished
  assert all(check.ok for check in checkpoints_intact(there))
  assert [check.details for check in checkpoints_intact(there)] == (
    ["every file matches its checksum"] * 2
  )
  assert read.find_checkpoint(RUN).name == "8"
  assert all((path / COMMITTED).exists() for path in (there / "checkpoints").iterdir())


def test_a_stopped_run_in_a_bucket_goes_on_bit_for_bit(finished, dump, monkeypatch):
  workdir = as_path("gs://bucket/runs/stopped")
  with monkeypatch.context() as patch:
    _at_step(patch, 5, lambda: signal.raise_signal(signal.SIGTERM))
    assert run_module.train(_config(dump), workdir) == EXIT_STOPPED
  assert run_module.train(_config(dump), workdir) == 0
  _equal(_arrays(finished[1], 8), _arrays(workdir, 8))
  assert _records(workdir) == _records(finished[1])
  starts = json.loads((workdir / "run.json").read_text())["starts"]
  assert [(s["step"], s["end"]["status"]) for s in starts] == [(0, EXIT_STOPPED), (5, 0)]


def test_a_damaged_checkpoint_in_a_bucket_is_passed_over(bucket, finished, dump, caplog):
  workdir = as_path("gs://bucket/runs/damaged")
  copy_folder(finished[0], workdir)
  (broken,) = [n for n in bucket.names("bucket/runs/damaged/checkpoints/8/train/d/")][:1]
  content, generation = bucket.objects[broken]
  bucket.objects[broken] = content[:-1] + bytes([content[-1] ^ 1]), generation
  failed = [check for check in checkpoints_intact(workdir) if not check.ok]
  assert [check.name for check in failed] == ["checkpoint 8"]
  assert "not what was written (another checksum)" in failed[0].details
  assert run_module.train(_config(dump), workdir) == 0
  assert "checkpoint 8 is damaged and is passed over" in caplog.text
  _equal(_arrays(finished[1], 8), _arrays(workdir, 8))


def test_a_checkpoint_that_is_being_written_is_not_read(bucket, finished):
  """In a bucket it has its name from the start."""
  workdir = as_path("gs://bucket/runs/cut")
  copy_folder(finished[0], workdir)
  step = "bucket/runs/cut/checkpoints/8"
  for name in (COMMITTED, "train/checksums.json"):
    del bucket.objects[f"{step}/{name}"]
  assert not is_complete(workdir / "checkpoints" / "8")
  assert read.find_checkpoint("gs://bucket/runs/cut", "latest").name == "4"
  with Checkpoints(workdir / "checkpoints", keep_last=3, keep_best=1) as checkpoints:
    assert checkpoints.steps == [4]
  until = time.monotonic() + 30  # orbax 0.12.8 deletes while the next things happen
  while bucket.names(step) and time.monotonic() < until:
    time.sleep(0.05)
  assert not bucket.names(step)  # cleared away, as on a disk
  for item in ("params", "stats", "meta"):  # as the accelerator script brings them back
    copy_folder(
      finished[1] / "checkpoints" / "8" / item, as_path("gs://bucket/w/checkpoints/8") / item
    )
  assert read.find_checkpoint("gs://bucket/w").name == "8"


def test_a_run_that_was_copied_into_a_bucket_is_continued_not_deleted(finished, dump):
  """Orbax takes checkpoints without its mark for leftovers (google/orbax#394)."""
  there, here = as_path("gs://bucket/runs/copied"), finished[1]
  copy_folder(here, there)
  assert read.find_checkpoint("gs://bucket/runs/copied").name == "8"
  assert run_module.train(_config(dump, train__steps=10), there) == 0
  assert [r["step"] for r in _records(there) if r["kind"] == "train"] == [2, 4, 6, 8, 10]
  with Checkpoints(there / "checkpoints", keep_last=3, keep_best=1) as checkpoints:
    assert {8, 10} <= set(checkpoints.steps)


def test_another_machine_has_the_track_store_from_the_bucket(finished, dump, tmp_path, monkeypatch):
  there, here = finished
  monkeypatch.setenv("ALPHAECOLI_CACHE", str(tmp_path / "other"))
  meta = read.read_meta(there / "checkpoints" / "8")
  store = find_store(meta, there)
  assert store.path.parent == tmp_path / "other" / "tracks"
  assert store.fingerprint == find_store(meta, here).fingerprint
  np.testing.assert_array_equal(store.gene_expression, find_store(meta, here).gene_expression)
  assert process_data(_config(dump), there).path == store.path  # there by now, and the same
  monkeypatch.setenv("ALPHAECOLI_CACHE", "")
  with pytest.raises(ConfigError, match=r"set ALPHAECOLI_CACHE to a directory, or data\.store_dir"):
    process_data(_config(dump), there)


def test_a_track_store_that_was_damaged_in_the_bucket_is_refused(
  bucket, finished, dump, tmp_path, monkeypatch
):
  (name,) = bucket.names("bucket/runs/one/tracks/")[:1]
  folder = name.rpartition("/")[0]
  monkeypatch.setenv("ALPHAECOLI_CACHE", str(tmp_path))
  content = bucket.objects[f"{folder}/sequence.npy"]
  bucket.objects[f"{folder}/sequence.npy"] = content[0][:-1] + b"\x07", content[1]
  try:
    with pytest.raises(DataError, match=r"gs://bucket/.*/sequence.npy: not what was written"):
      process_data(_config(dump), finished[0])
    assert not list((tmp_path / "tracks").iterdir())
  finally:
    bucket.objects[f"{folder}/sequence.npy"] = content


def test_a_prepared_store_in_a_bucket_is_copied_once(finished, dump, caplog, monkeypatch, tmp_path):
  caplog.set_level(logging.INFO, "alphaecoli")
  store = process_data(_config(dump), finished[1])
  copy_folder(store.path, as_path("gs://bucket/stores/toy"), last="manifest.json")
  config = _config(dump, data__stores=("gs://bucket/stores/toy",))
  monkeypatch.setenv("ALPHAECOLI_CACHE", str(tmp_path))
  for _ in range(2):
    (opened,) = open_organisms(config, finished[0]).stores
  assert opened.fingerprint == store.fingerprint and opened.path != store.path
  np.testing.assert_array_equal(opened.sequence, store.sequence)
  assert caplog.text.count("copying the track store gs://bucket/stores/toy") == 1


def test_a_predictor_comes_from_a_bucket(bucket, monkeypatch, tmp_path):
  monkeypatch.undo()  # the model itself
  config = tiny_config()
  for folder in (tmp_path / "one", as_path("gs://bucket/random/one")):
    save_checkpoint(folder, config)
  save_checkpoint(as_path("gs://bucket/random/two"), config, seed=6)
  here = read.load_inference(tmp_path / "one")
  predictor = load_predictor("gs://bucket/random/one")
  assert predictor.about["checkpoint"] == "gs://bucket/random/one/checkpoints/7"
  there = read.load_inference("gs://bucket/random/one")
  for part in ("params", "stats"):
    functional = FunctionalModel.of_model(config.model, here.table, here.model.heads)
    index = ("params", "stats").index(part)
    ours, theirs = (functional.split(found.model)[index] for found in (here, there))
    for name, value in ours.items():
      np.testing.assert_array_equal(theirs[name], value, err_msg=name)
  folder = as_path("gs://bucket/random")
  write_ensemble(folder, [folder / "one", folder / "two"])
  assert json.loads(bucket.text("bucket/random/ensemble.json"))["members"] == [
    "one/checkpoints/7",
    "two/checkpoints/7",
  ]
  ensemble = load_predictor("gs://bucket/random", out_of_fold=False)
  assert ensemble.about["checkpoint"] == "gs://bucket/random/ensemble.json"


def test_cross_validation_and_prediction_in_a_bucket_are_those_on_a_disk(
  bucket, monkeypatch, tmp_path
):
  quick = FunctionalModel.of(lambda key: Quick(Keys(key)))
  for name in ("of_config", "of_model"):
    monkeypatch.setattr(FunctionalModel, name, lambda config, table, heads=HEADS: quick)
  config, _ = cross_validation_arguments(tmp_path)
  (tmp_path / "c.fa").write_text(">c\n" + "ACGTTGCAATCGGCTA" * 250 + "\n")
  found = []
  for workdir in (tmp_path / "here", as_path("gs://bucket/crossvalidation")):
    assert crossvalidate.main([config, f"--workdir={workdir}", "--folds=0"]) == 0
    tables = ("crossvalidation.tsv", "out_of_fold_genes.tsv", "out_of_fold_pairs.tsv")
    files = [(workdir / name).read_bytes() for name in tables]
    common = [f"--checkpoint={workdir / 'fold_0'}", f"--fasta={tmp_path / 'c.fa'}"]
    out = tmp_path / f"out{len(found)}"
    assert predict.main([*common, f"--out={out}", "--formats=bigwig"]) == 0
    assert score.main([*common, "--ism=c:1001-1010", f"--out={out / 'ism.tsv'}"]) == 0
    found.append([*files, *((out / name).read_bytes() for name in ("gene_density.bw", "ism.tsv"))])
  assert found[0] == found[1]


def test_the_files_of_folds_lie_in_a_bucket(bucket, dump):
  workdir = as_path("gs://bucket/folds")
  config = folds.fold_config(_config(dump), workdir, 3)
  assert (config.data.fold, config.data.store_dir) == (3, "")
  path = folds.fold_folder(workdir, 3) / "evaluation_test.npz"
  fold_metrics.write_npz(path, {"a": np.arange(3)})
  with path.open("rb") as file, np.load(file) as arrays:
    np.testing.assert_array_equal(arrays["a"], [0, 1, 2])
  assert bucket.names("bucket/folds") == ["bucket/folds/fold_3/evaluation_test.npz"]


def test_what_may_not_be_written_is_one_line(bucket, dump):
  bucket.refuse = "bucket/closed"
  try:
    with pytest.raises(UserError, match=r"^gs://bucket/closed/writable: can not be written: "):
      run_module.train(_config(dump), as_path("gs://bucket/closed"))
    bucket.refuse = "bucket/half/checkpoints"
    with pytest.raises(UserError, match="checkpoint") as caught:
      run_module.train(_config(dump), as_path("gs://bucket/half"))
    assert "\n" not in str(caught.value)
  finally:
    bucket.refuse = None


def test_a_file_that_fails_half_way_stays_as_it_was(bucket):
  path = as_path("gs://bucket/atomic.txt")
  files.write_text(path, "before\n")

  def fail():
    with atomic_write(path) as file:
      file.write("after")
      raise RuntimeError("cut")

  with pytest.raises(RuntimeError, match="cut"):
    fail()
  assert bucket.text("bucket/atomic.txt") == "before\n"


def test_lines_in_a_bucket_are_written_now_and_then_and_at_the_end(bucket):
  path = as_path("gs://bucket/lines.txt")
  files.write_text(path, "0\n")
  lines = RemoteLines(path, every_s=1000.0)
  assert [lines.write(f"{i}\n") for i in (1, 2, 3)] == [True, False, False]
  assert bucket.text("bucket/lines.txt") == "0\n1\n"
  lines.close()
  assert bucket.text("bucket/lines.txt") == "0\n1\n2\n3\n"


def test_empty_objects_that_stand_for_folders_do_no_harm(bucket, tmp_path):
  files.write_text(as_path("gs://bucket/made/in/console/a.txt"), "a")
  for name in ("bucket/made/", "bucket/made/in/", "bucket/made/in/console/"):
    bucket.objects[name] = b"", 1
  files.write_text(as_path("gs://bucket/made2/b.txt"), "b")  # a name that begins alike
  file = "gs://bucket/made/in/console/a.txt"
  for path in ("gs://bucket/made", file):
    assert [str(found) for found in files.files_of([as_path(path)])] == [file]
  assert not list(files.files_of([as_path("gs://bucket/mad")]))


def test_files_are_asked_for_at_once_and_answered_in_order():
  together = threading.Barrier(8)  # nobody passes before all are there

  def ask(value):
    together.wait(timeout=60)
    return value

  assert list(files.at_once(ask, range(16))) == list(range(16))
  assert list(files.at_once(ask, [])) == []


def test_a_checkpoint_in_a_bucket_has_the_hash_of_its_copy(bucket, tmp_path):
  for i in range(20):
    (tmp_path / f"params/{i % 3}").mkdir(parents=True, exist_ok=True)
    files.write_text(tmp_path / f"params/{i % 3}/{i}", f"content {i}")
  copy_folder(tmp_path, as_path("gs://bucket/hashed"))
  assert read.hash_checkpoint("gs://bucket/hashed") == read.hash_checkpoint(tmp_path)


@pytest.mark.parametrize(
  "command",
  [
    lambda path: train.main(["--workdir", path, "--test-mode"]),
    lambda path: verify.main(["--workdir", path, "--test-mode"]),
    lambda path: evaluate.main(["--workdir", path]),
    lambda path: crossvalidate.main(["--workdir", path]),
    lambda path: predict.main(["--checkpoint", path, "--fasta", "x.fna", "--out", "y"]),
    load_predictor,
  ],
  ids=["train", "verify", "evaluate", "crossvalidate", "predict", "load_predictor"],
)
def test_a_path_in_a_bucket_without_its_packages_says_what_to_install(
  command, monkeypatch, tmp_path
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setitem(sys.modules, "gcsfs", None)
  files._prepare_buckets.cache_clear()
  try:
    with pytest.raises(
      ConfigError, match=r"^gs://bucket/run: gcsfs is not installed .*'alphaecoli\[gcs\]'$"
    ):
      command("gs://bucket/run")
    with pytest.raises(ConfigError, match=r"^s3://b/run: expected a path of this machine, or gs:"):
      command("s3://b/run")
    assert not list(tmp_path.iterdir())
  finally:
    files._prepare_buckets.cache_clear()


def test_outputs_are_not_written_to_a_folder_that_is_called_like_a_bucket(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(DataError, match=r"^gs:/bucket/out: in a bucket; expected a folder of this"):
    files.make_folder(Path("gs://bucket/out"))
  assert not list(tmp_path.iterdir())


def test_a_path_of_this_machine_is_pathlibs(tmp_path):
  path = as_path(str(tmp_path))
  assert type(path) is type(tmp_path) and path == tmp_path and as_path(path) == path
  shutil.rmtree(tmp_path)
