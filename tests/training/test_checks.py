import jax
import pytest

from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.training import checks
from tests import stores
from tests.training.small import save_checkpoint, tiny_config, with_mesh


@pytest.fixture(scope="module")
def store(tmp_path_factory):
  return stores.random_store(tmp_path_factory.mktemp("store"))


def _subject(store, workdir, **overrides):
  config = with_mesh(tiny_config(**overrides), 1)
  mesh = make_mesh(config.mesh, jax.devices()[:1])
  return checks.Subject(config, workdir, store, mesh, steps=6)


def _changed(store, **changes):
  return type(store)(store.path, {**store.manifest, **changes})


def test_every_check_passes_on_a_sound_store_and_model(store, tmp_path):
  found = list(checks.checks(_subject(store, tmp_path, train__ema_decay=0.5)))
  assert [check for check in found if not check.ok] == []
  names = " ".join(check.name for check in found)
  for part in ("targets of train", "statistics", "disjoint", "batch", "loss falls", "round-trips"):
    assert part in names


def test_a_base_in_two_splits_is_found(store, tmp_path):
  splits = dict(store.manifest["splits"])
  start, end = splits["test"][0]
  splits["train"] = [*splits["train"], [start, end]]
  found = list(checks.splits_disjoint(_subject(_changed(store, splits=splits), tmp_path)))
  failed = {check.name: check.details for check in found if not check.ok}
  assert f"{end - start} bases in two splits" in failed["splits disjoint"]
  assert "reach held-out bases" in failed["training windows"]


def test_statistics_that_are_not_finite_are_found(store, tmp_path):
  tracks = dict(store.manifest["tracks"])
  tracks["expression"] = [{**tracks["expression"][0], "std": float("nan")}]
  (check,) = checks.statistics_finite(_subject(_changed(store, tracks=tracks), tmp_path))
  assert not check.ok


def test_damaged_checkpoints_of_the_work_directory_are_found(tmp_path):
  save_checkpoint(tmp_path, tiny_config())
  assert [check.ok for check in checks.checkpoints_intact(tmp_path)] == [True]
  file = next((tmp_path / "checkpoints" / "7").glob("train/array_metadatas/*"))
  file.write_bytes(file.read_bytes()[:-1])
  (check,) = checks.checkpoints_intact(tmp_path)
  assert not check.ok and str(file) in check.details and check.name == "checkpoint 7"
  assert not list(checks.checkpoints_intact(tmp_path / "nothing"))


def test_a_failure_with_a_message_is_a_failed_check_and_the_rest_goes_on(store, tmp_path):
  subject = _subject(store, tmp_path, data__window_bp=65_536)  # longer than every held-out region
  found = list(checks.checks(subject))[:9]
  assert any(not check.ok and "longer than" in check.details for check in found)
  assert any(check.ok for check in found)
