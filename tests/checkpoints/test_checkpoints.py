import dataclasses
import json
import shutil
import warnings

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from alphaecoli.checkpoints import write as checkpoints
from alphaecoli.checkpoints.arrays import check_files
from alphaecoli.checkpoints.read import find_checkpoint, load_inference, read_meta, read_score
from alphaecoli.checkpoints.write import Checkpoints
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import sealed
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import HEADS, LossWeights, MeshConfig
from alphaecoli.training.loop import items_state, state_items
from alphaecoli.training.optimizer import make_optimizer
from alphaecoli.training.step import StepDefinition
from tests.training.small import TABLE, stand_in, tiny_config

# Reads of a damaged checkpoint that are under way when the first one fails end unheard, in orbax.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CONFIG = tiny_config()
META = {"config": CONFIG.to_dict(), "table": TABLE.to_json(), "store_fingerprint": "f"}


def _mesh(data=1, fsdp=1):
  return make_mesh(MeshConfig(data, fsdp, 1), jax.devices()[: data * fsdp])


def _definition(functional, mesh, optimizer=CONFIG.optimizer):
  optimizer = make_optimizer(optimizer, 8)
  return StepDefinition(functional, optimizer, LossWeights(**dict.fromkeys(HEADS, 1.0)), mesh)


def _state(functional, mesh):
  return _definition(functional, mesh).init_state(0)


def _restore(directory, functional, mesh, check=lambda meta: None):
  target = _definition(functional, mesh).abstract_state()
  with Checkpoints(directory, keep_last=9, keep_best=0) as checkpoints:
    return checkpoints.restore_newest(state_items(target), check)


def _save(directory, state, scores, **keep):
  with Checkpoints(directory, **{"keep_last": 2, "keep_best": 1, **keep}) as checkpoints:
    for step, score in scores.items():
      checkpoints.save(step, state_items(state), META, score)
    checkpoints.wait()
    return checkpoints.steps


def _edit_meta(checkpoint, **changes):
  file = checkpoint / "meta" / "metadata"
  file.write_text(json.dumps(sealed({**json.loads(file.read_text()), **changes})))


def _without_checksums(checkpoint):
  """Makes it one of an earlier version."""
  for file in checkpoint.glob("*/checksums.json"):
    file.unlink()
  for file in (checkpoint / "meta" / "metadata", checkpoint / "metrics" / "metrics"):
    content = json.loads(file.read_text())
    del content["checksum"]
    file.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
  """A work directory with checkpoints of the tiny AlphaEcoli, and its state."""
  workdir = tmp_path_factory.mktemp("real")
  functional = FunctionalModel.of_model(CONFIG.model, TABLE)
  state = _state(functional, _mesh())
  _save(workdir / "checkpoints", state, {10: 0.5, 20: 0.25, 30: 0.75})
  return workdir, functional, state


@pytest.mark.parametrize("devices", [(1, 1), (2, 2), (1, 8), (8, 1)], ids=str)
def test_what_eight_devices_saved_any_number_restores_bit_for_bit(tmp_path, devices):
  functional = stand_in()
  state = _state(functional, _mesh(2, 4))
  _save(tmp_path, state, {3: None})
  mesh = _mesh(*devices)
  restored = _restore(tmp_path, functional, mesh)
  back = items_state(restored.items)
  assert restored.step == 3 and restored.meta["store_fingerprint"] == "f"
  jax.tree.map(np.testing.assert_array_equal, back, state)
  for leaf in jax.tree.leaves(back):
    assert leaf.sharding.mesh == mesh


def test_the_state_of_muon_comes_back_bit_for_bit(tmp_path):
  optimizer, functional = dataclasses.replace(CONFIG.optimizer, name="muon"), stand_in()
  definition = _definition(functional, _mesh(2, 4), optimizer)
  state = definition.init_state(0)
  moments = jax.tree.map(lambda x: x + 3, state.opt_state)
  state = state._replace(opt_state=moments)
  _save(tmp_path, state, {3: None})
  target = _definition(functional, _mesh(1, 2), optimizer).abstract_state()
  with Checkpoints(tmp_path, keep_last=9, keep_best=0) as checkpoints:
    back = items_state(checkpoints.restore_newest(state_items(target), lambda meta: None).items)
  assert jax.tree.structure(back) == jax.tree.structure(state)
  jax.tree.map(np.testing.assert_array_equal, back, state)


def test_the_last_and_the_best_are_kept(tmp_path):
  state = _state(stand_in(), _mesh())
  scores = {1: 0.9, 2: 0.1, 3: None, 4: 0.5, 5: None, 6: 0.2}
  assert _save(tmp_path, state, scores) == [2, 5, 6]


def test_a_score_that_comes_later_makes_a_checkpoint_the_best(tmp_path):
  state = _state(stand_in(), _mesh())
  with Checkpoints(tmp_path, keep_last=1, keep_best=1) as checkpoints:
    checkpoints.save(1, state_items(state), META, 0.9)
    checkpoints.save(2, state_items(state), META)
  with Checkpoints(tmp_path, keep_last=1, keep_best=1) as checkpoints:
    checkpoints.set_score(2, 0.1, {"found": 3})
    checkpoints.save(3, state_items(state), META, 0.5)
    checkpoints.save(4, state_items(state), META, 0.6)
    checkpoints.wait()
    assert checkpoints.steps == [2, 4]
  best = find_checkpoint(tmp_path)
  assert best.name == "2"
  meta = read_meta(best)
  assert meta == sealed({**read_meta(tmp_path / "4"), "step": 2, "found": 3})


def test_without_keep_best_only_the_last_are_kept(tmp_path):
  state = _state(stand_in(), _mesh())
  assert _save(tmp_path, state, {1: 0.1, 2: 0.5, 3: 0.7}, keep_best=0) == [2, 3]


def test_inference_takes_the_best_by_default_and_the_latest_on_request(real):
  workdir, _, _ = real
  assert load_inference(workdir).step == 20
  assert load_inference(workdir / "checkpoints", "latest").step == 30
  assert load_inference(workdir / "checkpoints" / "30").step == 30


def test_inference_restores_parameters_alone(real, tmp_path):
  workdir, functional, state = real
  alone = tmp_path / "20"
  shutil.copytree(workdir / "checkpoints" / "20", alone)
  shutil.rmtree(alone / "train")
  loaded = load_inference(alone)
  params, stats = functional.split(loaded.model)
  for name, value in state.params.items():
    np.testing.assert_array_equal(params[name], value)
    assert len(params[name].devices()) == 1
  for name, value in state.stats.items():
    np.testing.assert_array_equal(stats[name], value)
  assert loaded.config == CONFIG and loaded.table == TABLE and loaded.path == alone


def test_a_checkpoint_of_an_earlier_version_takes_keys_that_came_later_from_the_base(
  real, tmp_path
):
  path = tmp_path / "20"
  shutil.copytree(real[0] / "checkpoints" / "20", path)
  older = {**CONFIG.to_dict(), "train": {"steps": 3, "batch_windows": 2, "seed": 1}}
  del older["log"]
  _edit_meta(path, config=older)
  config = load_inference(path).config
  assert (config.train.steps, config.train.accumulate_steps, config.log.every_steps) == (3, 1, 20)


def test_inference_can_spread_parameters_over_devices(real):
  workdir, functional, state = real
  params, _ = functional.split(load_inference(workdir, mesh=_mesh(1, 4)).model)
  name = "encoder/down_blocks/5/first/conv/kernel"
  assert len(params[name].devices()) == 4
  np.testing.assert_array_equal(params[name], state.params[name])


def test_arrays_are_readable_by_name_without_this_package(real):
  workdir, _, state = real
  with ocp.StandardCheckpointer() as reader:
    plain = reader.restore((workdir / "checkpoints" / "20" / "params").absolute())
  assert plain.keys() == state.params.keys()


def test_meta_says_what_the_checkpoint_is(real):
  meta = read_meta(real[0] / "checkpoints" / "30")
  assert meta["format"] == "alphaecoli-checkpoint" and meta["step"] == 30
  assert {"alphaecoli", "jax", "orbax-checkpoint"} <= meta["versions"].keys()


def test_nothing_saved_restores_nothing(tmp_path):
  assert _restore(tmp_path / "new", stand_in(), _mesh()) is None


def test_a_checkpoint_that_another_process_can_not_read_is_passed_over(
  tmp_path, monkeypatch, caplog
):
  functional = stand_in()
  _save(tmp_path, _state(functional, _mesh()), {1: None, 2: None})
  # Asked in turn: the newest step, whether its files are whole, whether it was read; and again.
  others = iter([3, 0, 1, 1, 1])
  monkeypatch.setattr(checkpoints, "of_every_process", lambda mine: [int(mine), next(others)])
  restored = _restore(tmp_path, functional, _mesh())
  assert restored.step == 2 and next(others, None) is None
  assert "checkpoint 3 is damaged" in caplog.text

  others = iter([2, 1, 0, 1, 1, 1])
  caplog.clear()
  assert _restore(tmp_path, functional, _mesh()).step == 1
  assert "checkpoint 2 is passed over: processes that can not read it: [1]" in caplog.text


def test_a_refusal_by_the_configuration_is_not_taken_for_damage(tmp_path):
  functional = stand_in()
  _save(tmp_path, _state(functional, _mesh()), {1: None})

  def refuse(meta):
    raise ConfigError("no")

  with pytest.raises(ConfigError, match="no"):
    _restore(tmp_path, functional, _mesh(), refuse)


def test_an_unfinished_save_is_not_a_checkpoint_and_is_cleared(tmp_path):
  functional = stand_in()
  partial = tmp_path / "7.orbax-checkpoint-tmp"
  (partial / "params").mkdir(parents=True)
  with pytest.raises(DataError, match="only an unfinished one"):
    find_checkpoint(tmp_path)
  assert _save(tmp_path, _state(functional, _mesh()), {3: None}) == [3]
  assert not partial.exists()


def _no_directory(path):
  shutil.rmtree(path)
  return "not a directory"


def _empty(path):
  shutil.rmtree(path / "20")
  return "no directories named after a step"


def _no_meta(path):
  shutil.rmtree(path / "20" / "meta")
  return "not a complete checkpoint"


def _other_json(path):
  (path / "20" / "meta" / "metadata").write_text('{"format": "other"}')
  return "not an alphaecoli checkpoint"


def _broken_json(path):
  (path / "20" / "meta" / "metadata").write_text('{"format": ')
  return "is not JSON"


def _no_params(path):
  shutil.rmtree(path / "20" / "params")
  return "params/checksums.json: missing"


def _newer_format(path):
  return _edit(path, "format_version", 99, "format version 99")


def _unknown_key(path):
  config = {**CONFIG.to_dict(), "unheard_of": {}}
  return _edit(path, "config", config, "does not fit .*unheard_of")


def _another_size(path):
  config = tiny_config(model__channels=24).to_dict()
  return _edit(path, "config", config, "params can not be read")


def _edit(path, key, value, message):
  _edit_meta(path / "20", **{key: value})
  return message


@pytest.mark.parametrize(
  "harm",
  [
    _no_directory, _empty, _no_meta, _other_json, _broken_json, _no_params, _newer_format,
    _unknown_key, _another_size,
  ],
)  # fmt: skip
def test_what_is_no_checkpoint_gives_one_clear_line(real, tmp_path, harm):
  path = tmp_path / "checkpoints"
  shutil.copytree(real[0] / "checkpoints" / "20", path / "20")
  message = harm(path)
  with pytest.raises(DataError, match=message) as failure:
    load_inference(path)
  assert "\n" not in str(failure.value) and str(path) in str(failure.value)


DAMAGE = {
  "cut": lambda file, data: file.write_bytes(data[: len(data) // 2]),
  "empty": lambda file, data: file.write_bytes(b""),
  "missing": lambda file, data: file.unlink(),
  "zeroed": lambda file, data: file.write_bytes(bytes(len(data))),
  "flipped": lambda file, data: file.write_bytes(
    bytes(b ^ 1 if i == len(data) // 2 else b for i, b in enumerate(data))
  ),
}
# What orbax writes for itself; nothing of it is needed to read a checkpoint from a disk.
UNREAD = ("_CHECKPOINT_METADATA", "commit_success.txt")


def _harmed(checkpoint, kind):
  """Damages every file of a checkpoint in turn; each is whole again when the next is."""
  files = sorted(p for p in checkpoint.rglob("*") if p.is_file() and p.name not in UNREAD)
  assert len(files) > 20
  for file in files:
    data = file.read_bytes()
    DAMAGE[kind](file, data)
    yield file.relative_to(checkpoint).as_posix()
    file.write_bytes(data)


@pytest.fixture
def two(tmp_path):
  """Two checkpoints of the stand-in, and what to restore."""
  functional = stand_in()
  definition = _definition(functional, _mesh())
  _save(tmp_path, definition.init_state(0), {1: 0.5, 2: 0.25})
  return tmp_path, state_items(definition.abstract_state())


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_to_any_file_is_one_line_and_the_checkpoint_before_is_taken(two, caplog, kind):
  folder, abstract = two
  for name in _harmed(folder / "2", kind):
    caplog.clear()
    with Checkpoints(folder, keep_last=9, keep_best=1) as checkpoints:
      restored = checkpoints.restore_newest(abstract, lambda meta: None)
    (record,) = [r for r in caplog.records if r.name.startswith("alphaecoli")]
    assert record.levelname == "ERROR" and name in record.getMessage()
    assert "\n" not in record.getMessage()
    # A score is no part of what training goes on from.
    assert restored.step == (2 if name == "metrics/metrics" else 1), name


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_to_any_file_is_one_line_for_prediction(real, tmp_path, caplog, kind):
  folder = tmp_path / "checkpoints"
  shutil.copytree(real[0] / "checkpoints", folder)
  shutil.rmtree(folder / "20" / "train")  # which prediction does not read
  for name in _harmed(folder / "20", kind):
    caplog.clear()
    if name == "metrics/metrics":  # the best of those whose score is known
      assert find_checkpoint(folder).name == "30"
      assert "metrics/metrics is damaged or missing" in caplog.text
      continue
    with pytest.raises(DataError) as failure:
      load_inference(folder)
    text = str(failure.value)
    assert f"{folder}/20" in text and name.split("/")[0] in text and "\n" not in text
    assert text.endswith(f"; name another checkpoint, {folder}/30")


def test_a_flipped_bit_anywhere_in_the_json_of_a_checkpoint_is_found(two):
  file = two[0] / "2" / "meta" / "metadata"
  data = file.read_bytes()
  expected = json.loads(data)
  for i in range(0, len(data), 5):
    file.write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
    try:
      meta = read_meta(two[0] / "2")
    except DataError:
      continue
    # Without its name the checksum can not be found; the arrays' then tells.
    assert {k: v for k, v in meta.items() if k in expected} != expected
    with pytest.raises(DataError, match="its checksum is missing"):
      check_files(two[0] / "2", meta, ["params"])


def test_a_checkpoint_without_checksums_opens_as_before(real, tmp_path, caplog):
  caplog.set_level("INFO")
  path = tmp_path / "20"
  shutil.copytree(real[0] / "checkpoints" / "20", path)
  _without_checksums(path)
  before, now = load_inference(real[0] / "checkpoints" / "20"), load_inference(path)
  jax.tree.map(np.testing.assert_array_equal, *(real[1].split(x.model) for x in (before, now)))
  (line,) = [r.getMessage() for r in caplog.records if "before there were checksums" in r.message]
  assert str(path) in line


@pytest.mark.parametrize("kind", ["cut", "missing"])
def test_without_checksums_a_cut_array_is_still_one_line(real, tmp_path, kind):
  path = tmp_path / "20"
  shutil.copytree(real[0] / "checkpoints" / "20", path)
  _without_checksums(path)
  largest = max(path.glob("params/**/d/*"), key=lambda p: p.stat().st_size)
  DAMAGE[kind](largest, largest.read_bytes())
  with pytest.raises(DataError, match="params can not be read") as failure:
    load_inference(path)
  assert "\n" not in str(failure.value)


def test_a_score_given_to_a_checkpoint_without_checksums_leaves_it_readable(two):
  folder, abstract = two
  _without_checksums(folder / "2")
  with Checkpoints(folder, keep_last=9, keep_best=1) as checkpoints:
    checkpoints.set_score(2, 0.1, {"found": 3})
    restored = checkpoints.restore_newest(abstract, lambda meta: None)
  assert restored.step == 2 and restored.meta["found"] == 3 and read_score(folder / "2") == 0.1


def test_processes_share_the_files_to_check(two):
  checkpoint = two[0] / "2"
  meta = read_meta(checkpoint)
  file = next(checkpoint.glob("params/d/*"))
  DAMAGE["flipped"](file, file.read_bytes())

  def finds(part):
    try:
      check_files(checkpoint, meta, ["params", "train"], part, 3)
    except DataError as error:
      return file.name in str(error)
    return False

  assert sum(map(finds, range(3))) == 1


def test_a_directory_that_can_not_be_written_is_one_clear_line(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(DataError, match="cannot write checkpoints to"):
    Checkpoints(tmp_path / "file" / "checkpoints", keep_last=1, keep_best=0)


def test_the_newer_interface_of_orbax_reads_our_checkpoints(real):
  workdir, _, state = real
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from orbax.checkpoint.experimental import v1

    found = v1.load_checkpointables(workdir / "checkpoints" / "20")
  assert {"params", "stats", "train", "meta"} <= found.keys()
  for item, values in (("params", state.params), ("stats", state.stats)):
    assert found[item].keys() == values.keys()
    for name, value in values.items():
      np.testing.assert_array_equal(found[item][name], value)
  assert found["train"]["step"] == 0 and found["meta"]["step"] == 20
