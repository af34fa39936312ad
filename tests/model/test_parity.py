"""Every block against the published implementation's numbers (tests/model/data/README.md)."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alphaecoli.model import alphagenome as names
from alphaecoli.model import convolutions as unet
from alphaecoli.model import heads as embedders
from alphaecoli.model import layers, pair
from alphaecoli.model import transformer as attention
from alphaecoli.model.alphagenome import PUBLISHED
from alphaecoli.model.layers import Keys
from tests.model.oracle_fill import fill, fill_input

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "golden_modules.json").read_text())
GOLDEN = np.load(DATA / "golden_modules.npz")
REPEATED = {"attention_bias_block": 16}  # outputs that stand for so many rows and columns
STORED = {  # the part of each output that is stored; all of it where not listed
  "mha_block": np.s_[:, ::16],
  "sequence_to_pair_block": np.s_[:, ::37, ::29],
  "pair_update_block": np.s_[:, ::3, ::2],
  "output_embedder_skip": np.s_[:, ::9],
}


def relative_error(got, want):
  got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
  assert got.shape == want.shape
  return np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))


def rngs():
  return Keys(jax.random.key(0))


BLOCKS = {
  "downres_block": (
    lambda: unet.DownBlock(32, 160, PUBLISHED, rngs=rngs()),
    lambda: names.down_block_names(5),
    "downres_block_0",
  ),
  "up_res_block": (
    lambda: unet.UpBlock(48, 40, PUBLISHED, rngs=rngs()),
    lambda: names.up_block_names(5),
    "up_res_block",
  ),
  "conv_block_width1": (
    lambda: unet.ConvBlock(12, 20, 1, PUBLISHED, rngs=rngs()),
    lambda: names.conv_block_names(1),
    "conv_block",
  ),
  "standardized_conv_floor": (
    lambda: layers.StandardizedConv(12, 20, 5, rngs=rngs()),
    names.standardized_conv_names,
    "standardized_conv1_d",
  ),
  "mlp_block": (lambda: attention.MLP(32, PUBLISHED, rngs=rngs()), names.mlp_names, "mlp_block"),
  "pair_mlp_block": (
    lambda: pair.PairMLP(PUBLISHED, rngs=rngs()),
    names.pair_mlp_names,
    "pair_mlp_block",
  ),
  "row_attention_block": (
    lambda: pair.RowAttention(PUBLISHED, rngs=rngs()),
    names.row_attention_names,
    "row_attention_block",
  ),
  "attention_bias_block": (
    lambda: attention.AttentionBias(PUBLISHED, rngs=rngs()),
    names.attention_bias_names,
    "attention_bias_block",
  ),
  "mha_block": (
    lambda: attention.MultiQueryAttention(32, PUBLISHED, rngs=rngs()),
    names.attention_names,
    "mha_block",
  ),
  "sequence_to_pair_block": (
    lambda: pair.SequenceToPair(16, PUBLISHED, rngs=rngs()),
    names.sequence_to_pair_names,
    "sequence_to_pair_block",
  ),
  "pair_update_block": (
    lambda: pair.PairUpdate(16, PUBLISHED, rngs=rngs()),
    names.pair_update_names,
    "pair_update_block",
  ),
  "output_embedder": (
    lambda: embedders.OutputEmbedder(24, 0, PUBLISHED, rngs=rngs()),
    lambda: names.output_embedder_names(False),
    "output_embedder",
  ),
  "output_embedder_skip": (
    lambda: embedders.OutputEmbedder(24, 48, PUBLISHED, rngs=rngs()),
    lambda: names.output_embedder_names(True),
    "output_embedder",
  ),
  "output_pair": (
    lambda: embedders.OutputPair(PUBLISHED, rngs=rngs()),
    names.output_pair_names,
    "output_pair",
  ),
}


def filled(case):
  """The block of a case with the oracle's parameters; every tensor used once, no other left."""
  make, inner, root = BLOCKS[case]
  spec = CASES[case]
  wanted = {
    (module, name): (kind, shape)
    for kind in ("params", "state")
    for module, tensors in spec[kind].items()
    for name, shape in tensors.items()
  }
  block = nnx.eval_shape(make)
  paths = {path: (f"{root}/{sub}".rstrip("/"), name) for path, (sub, name) in inner().items()}
  variables = dict(nnx.to_flat_state(nnx.state(block)))
  assert set(variables) == set(paths)
  for path, variable in variables.items():
    module, name = paths[path]
    kind, shape = wanted.pop((module, name))
    value = fill(kind, module, name, shape)
    if name == "w" and spec["w_scale"]:
      value = np.float32(spec["w_scale"]) * value
    variable.set_value(jnp.asarray(value.reshape(variable.shape)))
  assert not wanted
  nnx.update(block, nnx.from_flat_state(list(variables.items())))
  return block


def inputs(case):
  for name, (shape, kind) in CASES[case]["inputs"].items():
    if kind == "int32":
      yield jnp.asarray(GOLDEN[f"{case}/in_{name}"])
    else:
      yield jnp.asarray(fill_input(case, name, shape, CASES[case]["input_scale"][name]))


@pytest.mark.parametrize("case", BLOCKS)
def test_block_equals_the_published_implementation(case):
  block = filled(case)
  got = nnx.jit(lambda b, *x: b(*x))(block, *inputs(case))
  times = REPEATED.get(case, 1)
  assert [*got.shape[:-2], *(times * n for n in got.shape[-2:])] == CASES[case]["output_shape"]
  assert relative_error(got[STORED.get(case, ...)], GOLDEN[f"{case}/out"]) < 2e-6


def test_attention_by_blocks_equals_the_published_implementation(monkeypatch):
  monkeypatch.setattr(attention, "WHOLE_BINS", 512)
  monkeypatch.setattr(attention, "BLOCK_BINS", 128)
  got = nnx.jit(lambda b, *x: b(*x))(filled("mha_block"), *inputs("mha_block"))
  assert relative_error(got[STORED["mha_block"]], GOLDEN["mha_block/out"]) < 2e-6


def close(got, want, tolerance=2e-6):
  return relative_error(got, want) < tolerance


def test_rotary_positions_over_the_longest_window():
  # The published code calls jnp.geomspace, whose float32 values jax 0.12 rounds otherwise: 6e-7 of
  # a frequency, which 8,192 positions turn into 2e-4 of an output. Golden numbers: jax 0.10.
  frequency, output = (1e-7, 2e-6) if jax.__version_info__ < (0, 12) else (1e-6, 3e-4)
  x = jnp.asarray(fill_input("apply_rope", "x", (1, 8192, 2, 128)))
  assert close(attention.rotary_frequencies(64), GOLDEN["apply_rope/inv_freq"], frequency)
  assert close(jax.jit(attention.rotary)(x)[:, ::257], GOLDEN["apply_rope/out"], output)


def test_relative_shift_turns_distances_into_positions():
  assert np.array_equal(pair.relative_shift(jnp.asarray(GOLDEN["shift/in"])), GOLDEN["shift/out"])


def test_distance_features_over_the_longest_window():
  want = GOLDEN["central_mask/out_uint8"]
  distance = jnp.arange(-512, 512)
  got = np.asarray(pair.distance_features(distance, 32))
  assert close(pair.distance_widths(32), GOLDEN["central_mask/center_widths"], 1e-7)
  assert np.array_equal(got[:, :32], want)
  assert np.array_equal(got[:, 32:], np.sign(distance)[:, None] * want.astype(np.float32))


def test_gelu_of_convolutions_and_of_the_pair_stack():
  x = jnp.asarray(GOLDEN["gelu/x"])
  assert close(layers.gelu(x), GOLDEN["gelu/sigmoid1702"], 1e-6)
  assert close(jax.nn.gelu(x), GOLDEN["gelu/jax_default_tanh"], 1e-6)


def test_pooling():
  x = jnp.asarray(fill_input("pool", "x", (1, 32, 5)))
  assert np.array_equal(layers.max_pool(x), GOLDEN["pool/max2"])
  assert close(layers.mean_pool(x, 16), GOLDEN["pool/mean16"], 1e-6)


@pytest.mark.parametrize("case", ["layer_norm", "eps"])
@pytest.mark.parametrize("kind", ["rms", "centred"])
def test_layer_norm_and_its_epsilon(case, kind):
  shape = (3, 4, 16)
  x = fill_input("layer_norm", "x", shape) + 2
  if case == "eps":
    x = fill_input("eps", "x", shape, 1e-2)
  norm = layers.LayerNorm(16, centred=kind == "centred", rngs=rngs())
  norm.scale[...] = fill("params", "layer_norm", "scale", (16,))
  norm.offset[...] = fill("params", "layer_norm", "offset", (16,))
  name = kind if case == "layer_norm" else f"layer_norm_{kind}"
  assert close(norm(jnp.asarray(x)), GOLDEN[f"{case}/{name}"])


def test_epsilon_of_the_batch_norm():
  norm = layers.RMSBatchNorm(16, decay=0.9, rngs=rngs())
  for name in ("scale", "offset"):
    getattr(norm, name)[...] = fill("params", "rms_batch_norm", name, (1, 1, 16))[0, 0]
  small_variance = np.float32(1e-4) * fill("state", "rms_batch_norm", "var_ema", (1, 1, 16))
  norm.mean_square[...] = small_variance[0, 0]
  x = jnp.asarray(fill_input("eps", "x", (3, 4, 16), 1e-2))
  assert close(norm(x), GOLDEN["eps/rms_batch_norm"])
