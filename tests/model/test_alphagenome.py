"""The published parameter tree in this trunk, and the whole trunk at its published size."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alphaecoli.errors import DataError
from alphaecoli.model import alphagenome as published
from alphaecoli.model.alphagenome import PUBLISHED
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.model.layers import Keys, RunningStat
from alphaecoli.model.model import AlphaEcoli
from alphaecoli.schema import HEADS
from alphaecoli.tracks.track_table import ExpressionTrack, TrackTable
from tests.model import oracle_fill
from tests.model.test_parity import relative_error

DATA = Path(__file__).parent / "data"
SHAPES = json.loads((DATA / "param_names.json").read_text())
HEAD_SHAPES = json.loads((DATA / "head_param_names.json").read_text())
TABLE = TrackTable((ExpressionTrack("mean", ".", (), 0.0, 1.0),), 0.9, 0.6, True, True)
TOLERANCE = 5e-6  # rms(difference) / rms: five times float32 rounding, far below bfloat16's


@pytest.fixture(scope="module")
def abstract():
  return nnx.eval_shape(lambda: AlphaEcoli(PUBLISHED, TABLE, rngs=Keys(jax.random.key(0))))


def empty(shapes):
  """Arrays of the given shapes that take no memory."""
  return {
    module: {name: np.broadcast_to(np.float32(0), shape) for name, shape in tensors.items()}
    for module, tensors in shapes.items()
  }


def test_names_are_a_bijection_with_the_published_tree(abstract):
  names = published.trunk_names(PUBLISHED)
  tensors = {(m, n) for kind in SHAPES.values() for m, names_ in kind.items() for n in names_}
  assert len(names) == len(tensors) == 541 + 81
  assert set(names.values()) == tensors
  assert set(names) == set(published.trunk_variables(abstract))


def test_trunk_has_as_many_parameters_as_published(abstract):
  variables = published.trunk_variables(abstract).values()
  count = sum(int(np.prod(v.shape)) for v in variables if not isinstance(v, RunningStat))
  assert count == 403_918_983
  lines = FunctionalModel.of_model(PUBLISHED, TABLE).parameter_table().splitlines()
  assert [line.split()[0] for line in lines[:1] + lines[-1:]] == ["decoder", "total"]
  total = sum(int(line.split()[1].replace(",", "")) for line in lines[:-1])
  assert int(lines[-1].split()[1].replace(",", "")) == total


def test_conversion_takes_the_trunk_and_skips_published_heads(abstract):
  params = empty(SHAPES["params"] | HEAD_SHAPES["params"])
  values = published.convert(params, empty(SHAPES["state"]), abstract, PUBLISHED)
  variables = published.trunk_variables(abstract)
  assert {p: v.shape for p, v in values.items()} == {p: v.shape for p, v in variables.items()}


def test_conversion_refuses_in_one_line_what_does_not_fit(abstract):
  params, state = empty(SHAPES["params"]), empty(SHAPES["state"])
  embed = "alphagenome/embed"

  def message(params, state):
    with pytest.raises(DataError) as error:
      published.convert(params, state, abstract, PUBLISHED)
    assert "\n" not in str(error.value)
    return str(error.value)

  without = {m: t for m, t in params.items() if m != embed}
  assert f"{embed}:embeddings is missing" in message(without, state)
  more = params | {"alphagenome/extra": {"w": np.zeros(3)}}
  assert "alphagenome/extra:w has no place" in message(more, state)
  wrong = params | {embed: {"embeddings": np.zeros((3, 1536))}}
  assert "(3, 1536), expected (2, 1536)" in message(wrong, state)
  assert "78 more" in message(params, {})


@pytest.fixture(scope="module")
def trunk(abstract):
  tree = {kind: oracle_fill.fill_tree(kind, SHAPES[kind], calibrated=True) for kind in SHAPES}
  values = published.convert(tree["params"], tree["state"], abstract, PUBLISHED)
  for path, variable in published.trunk_variables(abstract).items():
    variable.set_value(jnp.asarray(values[path]))
  for head in HEADS:
    for variable in jax.tree.leaves(nnx.state(getattr(abstract, head)), is_leaf=is_variable):
      variable.set_value(jnp.zeros(variable.shape))
  return abstract


def is_variable(x):
  return isinstance(x, nnx.Variable)


@nnx.jit
def intermediates(model, sequence, organism):
  """The trunk step by step, keeping what the golden file stores."""
  x = jnp.eye(4, dtype=jnp.float32)[sequence]
  x, skips = model.encoder(x)
  kept = {f"bin_size_{2**i}": skip for i, skip in enumerate(skips)} | {"encoder": x}
  x = x + model.organism(organism)[:, None]
  pair = model.tower.empty_pair(x)
  for i, layer in enumerate(model.tower.layers):
    x, pair = layer(x, pair)
    if layer.pair_update is not None:
      kept[f"pair_update_{i // 2}"] = pair
  return kept | {"tower": x, "tower_pair": pair, "decoder": model.decoder(x, skips)}


@pytest.mark.fullsize
def test_full_size_trunk_equals_the_published_implementation(trunk):
  golden = np.load(DATA / "golden_calibrated.npz")
  sequence = jnp.asarray(golden["case0/codes"])[None]
  organism = jnp.asarray(golden["case0/organism_index"])
  one_bp, bins, pair = nnx.jit(lambda m, *x: m.embed(*x))(trunk, sequence, organism)
  outputs = intermediates(trunk, sequence, organism)
  outputs |= {"embeddings_1bp": one_bp, "embeddings_128bp": bins, "embeddings_pair": pair}
  parts = {
    "": lambda x: x,
    "_every64": lambda x: x[0, ::64],
    "_tail16": lambda x: x[0, -16:],
    "_head8": lambda x: x[0, :8],
    "_tail8": lambda x: x[0, -8:],
    "_at0": lambda x: x[0, :2],
  }
  checked = {}
  for name, value in outputs.items():
    for suffix, part in parts.items():
      if f"case0/{name}{suffix}" in golden:
        want = golden[f"case0/{name}{suffix}"]
        checked[name + suffix] = relative_error(part(np.asarray(value)), want)
  inputs = {"codes", "organism_index"}
  stored = {k.split("/")[1] for k in golden if k.count("/") == 1} - inputs
  assert set(checked) == stored
  assert {k: v for k, v in checked.items() if v > TOLERANCE} == {}
