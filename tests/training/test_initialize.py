"""Runs that start from another model: what is taken, what is fresh, what is refused."""

import dataclasses
import functools
import itertools
import json
import logging
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from alphaecoli import config as config_lib
from alphaecoli.checkpoints.read import load_inference, read_meta
from alphaecoli.checkpoints.write import Checkpoints
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.evaluation.run import bases_seen_before
from alphaecoli.model import alphagenome as published
from alphaecoli.model.finetuning import factor_names, head_of
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import HEADS, MeshConfig
from alphaecoli.tracks.organisms import Organisms
from alphaecoli.tracks.splits import TEST, VALIDATION
from alphaecoli.tracks.track_table import ExpressionTrack
from alphaecoli.training.initialize import _read_published, first_values, training_data
from alphaecoli.training.loop import Setup, state_items
from alphaecoli.training.run import start
from alphaecoli.training.step import StepDefinition
from tests import stores
from tests.model import test_alphagenome
from tests.training.small import (
  TABLE,
  random_values,
  save_checkpoint,
  tiny_config,
  with_mesh,
)

KERNEL, BIAS = "gene_expression/linear/kernel", "gene_expression/linear/bias"
QUERY = "tower/layers/0/attention/query/kernel"


def _mesh(data=1, fsdp=1):
  return make_mesh(MeshConfig(data, fsdp, 1), jax.devices()[: data * fsdp])


_make = FunctionalModel.of_model


@functools.lru_cache
def _made(config, table, heads):
  return _make(config, table, {name: HEADS[name] for name in heads})


def _of_model(config, table, heads=HEADS):
  return _made(config, table, tuple(heads))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  """Models are made once; fresh values are those of `random_values` with the run's seed."""

  def init(self, seed, mesh):
    return tuple(
      {name: jax.device_put(value, where[name]) for name, value in part.items()}
      for part, where in zip(random_values(self, seed), self.shardings(mesh), strict=True)
    )

  monkeypatch.setattr(FunctionalModel, "init", init)
  monkeypatch.setattr(FunctionalModel, "of_model", _of_model)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """A work directory, and the parameters and statistics of its checkpoint."""
  workdir = tmp_path_factory.mktemp("source")
  return workdir, *save_checkpoint(workdir, tiny_config(), trained_on=[])


def _first(store, config, mesh=None):
  functional = FunctionalModel.of_config(config, store.table)
  mesh = mesh or _mesh()
  params, stats, origin = first_values(functional, config, Organisms.of([store]), mesh)
  assert params.keys() == functional.params.keys() and stats.keys() == functional.stats.keys()
  for found, where in zip((params, stats), functional.shardings(mesh), strict=True):
    assert all(value.sharding == where[name] for name, value in found.items())
  return jax.device_get(params), jax.device_get(stats), origin


def _same(found, expected):
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("devices", [(1, 1), (2, 4)], ids=str)
def test_a_run_starts_with_the_values_of_a_checkpoint(store, source, devices, caplog):
  caplog.set_level(logging.INFO, "alphaecoli")
  workdir, params, stats = source
  found, found_stats, origin = _first(
    store, tiny_config(init__checkpoint=str(workdir)), _mesh(*devices)
  )
  _same(found_stats, stats)
  _same(found, {n: v for n, v in params.items() if head_of(n) != "gene_expression"})
  z = np.random.default_rng(0).normal(size=(9, len(params[KERNEL]))).astype(np.float32)
  before, after = (z @ p[KERNEL] + p[BIAS] for p in (params, found))
  assert store.table.expression[0].mean != TABLE.expression[0].mean
  np.testing.assert_allclose(
    store.table.to_log_tpm(after), TABLE.to_log_tpm(before), rtol=1e-4, atol=1e-4
  )
  init = origin["init"]
  assert init["step"] == 7 and init["from"].endswith("checkpoints/7") and init["fresh_heads"] == []
  assert "after step 7" in caplog.text and "fresh" not in caplog.text


def test_the_hash_of_a_start_is_that_of_its_values(store, source, tmp_path):
  copy, other = tmp_path / "copy", tmp_path / "other"
  shutil.copytree(source[0], copy)
  save_checkpoint(other, tiny_config(), seed=6, trained_on=[])
  hashes = [
    _first(store, tiny_config(init__checkpoint=str(path)))[2]["init"]["sha256"]
    for path in (source[0], copy, other)
  ]
  assert hashes[0] == hashes[1] != hashes[2] and len(hashes[0]) == 64


def test_a_head_whose_tracks_differ_is_fresh_and_named(store, tmp_path, caplog):
  tracks = (ExpressionTrack("heat", ".", ("a",), 2.0, 1.5),)
  params, _ = save_checkpoint(
    tmp_path, tiny_config(), dataclasses.replace(TABLE, expression=tracks), trained_on=[]
  )
  config = tiny_config(init__checkpoint=str(tmp_path), train__seed=3)
  found, _, origin = _first(store, config)
  fresh, _ = random_values(FunctionalModel.of_model(config.model, store.table), 3)
  _same(found, {n: (fresh if head_of(n) == "gene_expression" else params)[n] for n in found})
  assert "fresh head: gene_expression, as its tracks are others" in caplog.text
  assert origin["init"]["fresh_heads"] == ["gene_expression"]


def test_more_tracks_than_before_can_be_learnt(toy_store, source, tmp_path):
  names = ("mean", "heat", "cold")
  tracks = tuple(dataclasses.replace(toy_store.table.expression[0], name=name) for name in names)
  table = dataclasses.replace(toy_store.table, expression=tracks)
  store = type(toy_store)(toy_store.path, {**toy_store.manifest, "tracks": table.to_json()})
  found, _, origin = _first(store, tiny_config(init__checkpoint=str(source[0])))
  assert found[KERNEL].shape[1] == 3 and origin["init"]["fresh_heads"] == ["gene_expression"]


def test_a_head_that_was_not_trained_is_fresh(store, tmp_path, caplog):
  params, _ = save_checkpoint(tmp_path, tiny_config(loss__weights__gene_density=0.0), trained_on=[])
  found, _, _ = _first(store, tiny_config(init__checkpoint=str(tmp_path)))
  assert "fresh head: gene_density, as the start has none trained" in caplog.text
  kernel = "gene_density/linear/kernel"
  assert (found[kernel] != params[kernel]).any()


def test_organisms_that_come_new_have_fresh_rows(store, source, caplog):
  _, params, _ = source
  config = tiny_config(init__checkpoint=str(source[0]), model__n_organisms=3, train__seed=3)
  found, _, _ = _first(store, config)
  fresh, _ = random_values(FunctionalModel.of_model(config.model, store.table), 3)
  tables = [name for name in found if name.endswith("organism/table")]
  assert len(tables) == 4
  for name in tables:
    np.testing.assert_array_equal(found[name], np.concatenate([params[name], fresh[name][1:]]))
  assert "fresh organisms: rows 1 to 2" in caplog.text


def test_another_trunk_is_refused_with_its_sizes(store, source):
  config = tiny_config(init__checkpoint=str(source[0]), model__channels=16, model__n_layers=2)
  with pytest.raises(ConfigError, match="a trunk of other sizes: decoder/up_blocks/0") as failure:
    _first(store, config)
  text = str(failure.value)
  assert text.count(" there and ") == 3 and "\n" not in text
  assert text.endswith("--config.model.channels=8 --config.model.n_layers=1")


def test_factors_of_a_start_are_part_of_the_kernels_that_a_run_begins_with(store, tmp_path):
  tuned = tiny_config(init__freeze="tower", init__lora_rank=2, init__lora_alpha=6.0)
  params, _ = save_checkpoint(tmp_path, tuned, trained_on=[])
  down, up = (params[name] for name in factor_names(QUERY))
  expected = params[QUERY] + 3 * down @ up
  found, _, _ = _first(store, tiny_config(init__checkpoint=str(tmp_path)))
  np.testing.assert_allclose(found[QUERY], expected, rtol=1e-5)
  loaded = load_inference(tmp_path).model  # as prediction and evaluation read it
  np.testing.assert_allclose(
    loaded.tower.layers[0].attention.query.kernel[...], expected, rtol=1e-5
  )


def test_a_run_with_factors_starts_from_a_checkpoint_without(store, source):
  _, params, _ = source
  config = tiny_config(init__checkpoint=str(source[0]), init__freeze="trunk", init__lora_rank=2)
  found, _, _ = _first(store, config)
  assert factor_names(QUERY)[0] in found
  _same(found, {n: v for n, v in params.items() if head_of(n) != "gene_expression"})


def _held_out(store):
  return {s: sum(region.length_bp for region in store.regions(s)) for s in (VALIDATION, TEST)}


@pytest.fixture(scope="module")
def other_fold(tmp_path_factory):
  """The genome of the store of `store`, with the splits of another fold."""
  return stores.random_store(tmp_path_factory.mktemp("fold"), fold=4)


def test_a_start_that_has_seen_what_is_held_out_is_refused(store, other_fold, tmp_path, caplog):
  save_checkpoint(tmp_path, tiny_config(), trained_on=[training_data(store)])
  same = _first(store, tiny_config(init__checkpoint=str(tmp_path)))[2]
  assert same["init"]["held_out_bp_seen"] == {VALIDATION: 0, TEST: 0}
  assert same["trained_on"] == [training_data(store)]
  total = _held_out(other_fold)
  with pytest.raises(ConfigError) as failure:
    _first(other_fold, tiny_config(init__checkpoint=str(tmp_path)))
  assert f"{total[TEST]:,} of {total[TEST]:,} bases of test" in str(failure.value)
  advice = r"data\.fold=0 .*data\.n_folds=10 .*data\.n_blocks=20 .*data\.block_offset=0\.5\)"
  assert re.search(advice, str(failure.value)) and "\n" not in str(failure.value)
  allowed = tiny_config(init__checkpoint=str(tmp_path), init__allow_seen=True)
  origin = _first(other_fold, allowed)[2]
  assert "not held out" in caplog.text and origin["init"]["held_out_bp_seen"] == total
  assert bases_seen_before(origin, TEST) == total[TEST] and bases_seen_before({}, TEST) == 0
  assert origin["trained_on"] == [training_data(store), training_data(other_fold)]


def test_where_a_start_began_is_kept_with_its_terms(store, tmp_path):
  save_checkpoint(
    tmp_path, tiny_config(), trained_on=[], init={"from": "alphagenome", "terms": "there"}
  )
  origin = _first(store, tiny_config(init__checkpoint=str(tmp_path)))[2]
  assert origin["init"]["before"]["from"] == "alphagenome" and origin["init"]["terms"] == "there"


def test_what_the_start_of_a_start_has_seen_counts(store, other_fold, tmp_path):
  seen = [training_data(other_fold), training_data(store)]
  save_checkpoint(tmp_path, tiny_config(), trained_on=seen)
  with pytest.raises(ConfigError, match="was trained on"):
    _first(store, tiny_config(init__checkpoint=str(tmp_path)))


def test_another_genome_has_seen_nothing_held_out(store, tmp_path):
  other = {**training_data(store), "genome_sha256": "0" * 64, "arcs": [[0, store.length_bp]]}
  save_checkpoint(tmp_path, tiny_config(), trained_on=[other])
  origin = _first(store, tiny_config(init__checkpoint=str(tmp_path)))[2]
  assert origin["trained_on"] == [other, training_data(store)]


def test_a_start_that_does_not_say_what_it_has_seen_is_loud(store, tmp_path, caplog):
  save_checkpoint(tmp_path, tiny_config())
  origin = _first(store, tiny_config(init__checkpoint=str(tmp_path)))[2]
  assert "does not say what it was trained on" in caplog.text
  assert origin["init"]["held_out_bp_seen"] is None


def test_an_older_checkpoint_on_the_same_store_is_known(store, tmp_path, caplog):
  save_checkpoint(tmp_path, tiny_config(), store_fingerprint=store.fingerprint)
  origin = _first(store, tiny_config(init__checkpoint=str(tmp_path)))[2]
  assert "does not say" not in caplog.text
  assert origin["init"]["held_out_bp_seen"] == {VALIDATION: 0, TEST: 0}


def test_a_run_under_way_goes_on_from_its_own_checkpoint(store, source, tmp_path):
  """Even where its start is gone; and its checkpoints say where it began."""
  begin = tmp_path / "begin"
  shutil.copytree(source[0], begin)
  config = with_mesh(tiny_config(init__checkpoint=str(begin), init__freeze="trunk"), 2, 4)
  mesh, path = _mesh(2, 4), tmp_path / "run" / "checkpoints"
  definition = StepDefinition.of_config(config, store.table, mesh)
  setup = Setup(config, tmp_path / "run", Organisms.of([store]), definition)

  def begin_or_go_on():
    with jax.set_mesh(mesh), Checkpoints(path, keep_last=1, keep_best=0) as checkpoints:
      state, origin, _ = start(setup, checkpoints)
      if not checkpoints.steps:
        moved = {name: value + 1 for name, value in jax.device_get(state.params).items()}
        meta = {"config": config.to_dict(), "table": store.table.to_json(), **origin}
        meta["store_fingerprint"] = store.fingerprint
        saved = jax.device_get(state)._replace(params=moved)
        checkpoints.save(3, state_items(saved), meta)
    return state, origin

  first, origin = begin_or_go_on()
  assert set(first.opt_state[1].mu) == {name for name in first.params if head_of(name)}
  shutil.rmtree(begin)
  again, later = begin_or_go_on()
  _same(jax.device_get(again.params), {n: np.asarray(v) + 1 for n, v in first.params.items()})
  assert origin == later == {k: read_meta(path / "3")[k] for k in ("init", "trained_on")}
  assert origin["trained_on"] == [training_data(store)]


PUBLISHED = tiny_config(model__n_layers=2)  # with both kinds of layers


def _published_tree(config, organisms=2):
  """Made-up arrays under the published names, with haiku's leading axes of size 1."""
  sizes = dataclasses.replace(config.model, n_organisms=organisms)
  model, names = FunctionalModel.of_model(sizes, TABLE).module(), published.trunk_names(sizes)
  rng = np.random.default_rng(1)
  tree = ({"alphagenome/head/atac": {"w": np.ones((4, 3), np.float32)}}, {})
  for path, variable in published.trunk_variables(model).items():
    module, name = names[path]
    shape = (1, 1, *variable.shape) if name in ("scale", "offset", "var_ema") else variable.shape
    kind = tree[1] if name == "var_ema" else tree[0]
    kind.setdefault(module, {})[name] = rng.uniform(0.5, 1, shape).astype(np.float32)
  return tree


def _write_published(path, tree):
  with ocp.StandardCheckpointer() as writer:
    writer.save(path.absolute(), jax.tree.map(jnp.asarray, tree))
  (path / ".cache").mkdir()  # as downloads leave it
  (path / ".cache" / "lock").write_text("")


@pytest.mark.parametrize("devices", [(1, 1), (2, 4)], ids=str)
def test_a_run_starts_from_parameters_under_published_names(store, tmp_path, devices, caplog):
  """At a tiny size, with made-up numbers: the released parameters themselves were never read."""
  path, tree = tmp_path / "all-folds", _published_tree(PUBLISHED)
  _write_published(path, tree)
  config = dataclasses.replace(PUBLISHED, init=tiny_config(init__checkpoint=str(path)).init)
  found, stats, origin = _first(store, config, _mesh(*devices))
  for (module, name), values in {
    ("alphagenome/transformer_tower/mha_block_1/q_layer", "w"):
      found["tower/layers/1/attention/query/kernel"],
    ("alphagenome/sequence_encoder/dna_embedder/conv1_d", "b"):
      found["encoder/dna_embedder/conv/bias"],
  }.items():  # fmt: skip
    np.testing.assert_array_equal(tree[0][module][name], values)
  norm = "alphagenome/sequence_encoder/downres_block_3/conv_block_1/rms_batch_norm"
  mean_square = stats["encoder/down_blocks/3/second/norm/mean_square"]
  np.testing.assert_array_equal(tree[1][norm]["var_ema"][0, 0], mean_square)
  rows = tree[0]["alphagenome/embed"]["embeddings"]
  np.testing.assert_array_equal(found["organism/table"], rows[:1])
  assert origin["init"]["fresh_heads"] == list(HEADS)
  assert "model terms apply" in caplog.text and "model-terms" in origin["init"]["terms"]
  assert origin["init"]["step"] is None and origin["trained_on"] == [training_data(store)]
  assert "of the start's 2 organisms the first 1 are kept" in caplog.text


def test_published_parameters_of_another_size_are_refused(store, tmp_path):
  _write_published(tmp_path / "p", _published_tree(PUBLISHED))
  config = tiny_config(init__checkpoint=str(tmp_path / "p"), model__n_layers=2, model__key_dim=4)
  with pytest.raises(DataError, match=r"do not fit the model: alphagenome/.* expected") as failure:
    _first(store, config)
  assert "\n" not in str(failure.value)


@pytest.mark.parametrize("kind", ["nothing", "other arrays", "broken"])
def test_what_is_neither_is_refused_in_one_line(store, tmp_path, kind):
  path = tmp_path / "x"
  if kind != "nothing":
    _write_published(path, {"a": np.ones(3)})
  if kind == "broken":
    (path / "_METADATA").write_text("{")
  with pytest.raises(DataError) as failure:
    _first(store, tiny_config(init__checkpoint=str(path)))
  assert "\n" not in str(failure.value) and str(path) in str(failure.value)


@pytest.mark.slow
def test_the_published_tree_is_read_at_its_full_size(tmp_path):
  """Every tensor of the published names and shapes, a constant each: 1.6 GB."""
  data = Path(test_alphagenome.__file__).parent / "data"
  tree, heads = (
    json.loads((data / f"{name}.json").read_text()) for name in ("param_names", "head_param_names")
  )
  constants = itertools.count(1)
  filled = [
    {m: {n: np.full(shape, next(constants), np.float32) for n, shape in t.items()} for m, t in part}
    for part in ((*tree["params"].items(), *heads["params"].items()), tree["state"].items())
  ]
  _write_published(tmp_path / "all-folds", tuple(filled))
  config = config_lib.resolve(config_lib.base_config())
  assert config.model.n_organisms == 1  # the published model has two
  source = _read_published(tmp_path / "all-folds", config.model, TABLE)
  found = {**source.params, **source.stats}
  names = published.trunk_names(published.PUBLISHED)
  assert len(found) == len(names) == 541 + 81
  for path, (module, name) in names.items():
    value, given = found["/".join(map(str, path))], filled[name == "var_ema"][module][name]
    assert value.size == given.size and value.min() == value.max() == given.flat[0], path
