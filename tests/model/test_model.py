"""AlphaEcoli as a whole, at a tiny size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import special

from alphaecoli import schema
from alphaecoli.genomics.sequence import reverse_complement
from alphaecoli.model.alphagenome import PUBLISHED
from alphaecoli.model.convolutions import Encoder, level_channels
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.model.heads import OperonMembershipHead, dropout
from alphaecoli.model.layers import Keys, RMSBatchNorm, RunningStat
from alphaecoli.model.model import AlphaEcoli, mean_of_strands
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.schema import MeshConfig
from alphaecoli.tracks.track_table import ExpressionTrack, TrackTable

TINY = dataclasses.replace(
  PUBLISHED,
  channels=8,
  channel_step=2,
  n_layers=1,
  n_heads=2,
  key_dim=4,
  value_dim=4,
  pair_channels=4,
  pair_heads=2,
  pair_head_dim=4,
  pair_features=3,
  n_organisms=1,
)
TRACKS = tuple(ExpressionTrack(name, ".", (), 0.0, 1.0) for name in ("heat", "cold", "mean"))
TABLE = TrackTable(TRACKS, 0.9, 0.58, True, True)
HEADS = ("gene_expression", "gene_density", "operon_membership")
WINDOWS, LENGTH_BP = 2, 4096
ORGANISM = jnp.zeros(WINDOWS, jnp.int32)


def sequence(seed=0):
  return jnp.asarray(np.random.default_rng(seed).integers(0, 5, (WINDOWS, LENGTH_BP)), jnp.uint8)


def abstract(table=TABLE, **changes):
  config = dataclasses.replace(TINY, **changes)
  return nnx.eval_shape(lambda: AlphaEcoli(config, table, rngs=Keys(jax.random.key(0))))


@pytest.fixture(scope="module")
def model():
  return nnx.jit(lambda: AlphaEcoli(TINY, TABLE, rngs=Keys(jax.random.key(0))))()


def test_a_stretch_is_one_window_where_the_tower_does_nothing(model):
  """Convolutions then decide everything, and see all of a stretch as they see all of a window."""
  idle = nnx.merge(nnx.graphdef(model), nnx.state(model), copy=True)
  for layer in idle.tower.layers:
    for part in (layer.attention, layer.mlp):
      part.norm_out.scale[...] *= 0
  run = nnx.jit(lambda model, **how: model(sequence(), ORGANISM, **how), static_argnames="tower_bp")
  window = run(idle)
  for name, values in run(idle, tower_bp=(2048, 512)).items():
    np.testing.assert_allclose(values, window[name], rtol=1e-5, atol=1e-5, err_msg=name)
  assert not np.allclose(run(model)["gene_density"], window["gene_density"])


def test_a_stretch_that_windows_do_not_fill_is_refused():
  for length, tower_bp in ((4096, (2048, 256)), (2048, (4096, 1024)), (4096, (3072, 0))):
    with pytest.raises(ValueError, match=r"windows of|multiple of 2048"):
      nnx.eval_shape(
        lambda m, n=length, t=tower_bp: m(jnp.zeros((2, n), jnp.uint8), ORGANISM, tower_bp=t),
        abstract(),
      )


def like(model, **changes):
  """The same parameters in a model of another configuration."""
  return nnx.merge(nnx.graphdef(abstract(**changes)), nnx.state(model), copy=True)


def training_pass(model):
  """Outputs, new running statistics and gradients of a made-up loss."""
  graph, params, stats = nnx.split(model, nnx.Param, RunningStat)

  def loss(params, stats):
    merged = nnx.merge(graph, params, stats, copy=True)
    outputs = merged(sequence(), ORGANISM, train=True)
    total = sum(jnp.square(x - 1).mean() for x in outputs.values())
    return total, (outputs, nnx.to_pure_dict(nnx.state(merged, RunningStat)))

  step = jax.jit(jax.value_and_grad(loss, has_aux=True))
  (_, (outputs, stats)), grads = step(params, stats)
  return outputs, stats, nnx.to_pure_dict(grads)


@pytest.fixture(scope="module")
def trained(model):
  return training_pass(model)


def leaves(tree):
  return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree.leaves_with_path(tree)}


def assert_close(got, want, tolerance):
  got, want = leaves(got), leaves(want)
  assert got.keys() == want.keys()
  scale = max(np.abs(v).max() for v in want.values())
  for name, value in want.items():
    np.testing.assert_allclose(got[name], value, rtol=tolerance, atol=tolerance * scale)


def test_outputs_are_raw_and_float32(trained):
  shapes = {name: (x.shape, x.dtype) for name, x in trained[0].items()}
  assert shapes == {
    "gene_expression": ((WINDOWS, LENGTH_BP, 3), jnp.float32),
    "gene_density": ((WINDOWS, LENGTH_BP // 128, 1), jnp.float32),
    "operon_membership": ((WINDOWS, LENGTH_BP, 1), jnp.float32),
    "gene_structure": ((WINDOWS, LENGTH_BP, 8), jnp.float32),
    "operon_junction": ((WINDOWS, LENGTH_BP, 2), jnp.float32),
  }
  assert trained[0]["gene_density"].min() >= 0
  assert trained[0]["gene_expression"].min() < 0


def test_gradients_reach_every_parameter_that_the_heads_use(trained):
  unused = {"embed_pair"}  # no head reads the pairs
  for name, grad in leaves({k: v for k, v in trained[2].items() if k not in unused}).items():
    assert np.isfinite(grad).all(), name
    assert grad.any(), name


def test_training_moves_every_running_statistic_and_inference_none(model, trained):
  before = leaves(nnx.to_pure_dict(nnx.state(model, RunningStat)))
  assert len(before) == 13 + 5 + 21 + 2
  assert all((value == 1).all() for value in before.values())
  after = leaves(trained[1])
  assert all((after[name] != value).all() for name, value in before.items())
  nnx.jit(lambda m: m(sequence(), ORGANISM))(model)
  assert all(
    (v == 1).all() for v in leaves(nnx.to_pure_dict(nnx.state(model, RunningStat))).values()
  )


def test_batch_norm_in_training_divides_by_the_root_mean_square_of_the_batch():
  norm = RMSBatchNorm(3, decay=0.9, rngs=Keys(jax.random.key(0)))
  x = np.random.default_rng(0).normal(2, 3, (4, 5, 3)).astype(np.float32)
  mean_square = np.square(x).mean((0, 1))
  y = norm(jnp.asarray(x), train=True)
  np.testing.assert_allclose(y, x / np.sqrt(mean_square + 1e-5), rtol=1e-5)
  np.testing.assert_allclose(norm.mean_square[...], 0.9 + 0.1 * mean_square, rtol=1e-5)
  y = norm(jnp.asarray(x))
  np.testing.assert_allclose(y, x / np.sqrt(0.9 + 0.1 * mean_square + 1e-5), rtol=1e-5)


def test_recomputing_blocks_changes_nothing(model, trained):
  outputs, stats, grads = training_pass(like(model, remat=True))
  assert_close(outputs, trained[0], 1e-4)
  assert_close(stats, trained[1], 1e-4)
  assert_close(grads, trained[2], 1e-3)


def test_recomputing_all_but_products_computes_each_of_them_once(model):
  """The matrix products and convolutions of a step, by name, without compiling it."""

  def counts(**changes):
    graph, params, rest = nnx.split(abstract(**changes), nnx.Param, ...)

    def loss(params, rest):
      outputs = nnx.merge(graph, params, rest, copy=True)(sequence(), ORGANISM, train=True)
      return sum(x.sum() for x in outputs.values())

    text = str(jax.make_jaxpr(jax.grad(loss))(params, rest))
    return [text.count(f"= {name}[") for name in ("conv_general_dilated", "dot_general")]

  off, products, blocks = (
    counts(),
    counts(remat=True, remat_policy="products"),
    counts(remat=True),
  )
  n_conv = 1 + 1 + 6 * 2 + 7 * 3  # first, its block, down, up
  assert off[0] == products[0] == 3 * n_conv - 1  # no gradient by the bases
  # Of every block all but the last, whose output no gradient needs.
  assert blocks[0] == off[0] + 1 + 6 + 7 * 2
  assert off[1] < products[1] < blocks[1]  # those of attention have no name


def test_of_the_encoder_the_backward_pass_keeps_one_array_a_level():
  """The pooled arrays, half as large, are computed anew."""
  config = dataclasses.replace(TINY, remat=True)

  def kept():
    graph, state = nnx.split(Encoder(config, rngs=Keys(jax.random.key(0))))
    return jax.vjp(
      lambda x: nnx.merge(graph, state, copy=True)(x, train=True), jnp.zeros((2, 1024, 4))
    )[1]

  shapes = [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(kept))]
  for level, features in enumerate(level_channels(config)[:-1]):
    assert (2, 1024 >> level, features) in shapes
    assert (2, 1024 >> level + 1, features) not in shapes


def test_bfloat16_computes_close_to_float32_and_keeps_parameters(model, trained):
  outputs, stats, grads = training_pass(like(model, compute_dtype="bfloat16"))
  assert {x.dtype for x in jax.tree.leaves((outputs, stats, grads))} == {jnp.dtype("float32")}
  for name, want in trained[0].items():
    difference = np.asarray(outputs[name]) - want
    assert np.sqrt(np.mean(difference**2)) < 0.1 * max(np.std(want), 0.1), name


def test_a_mesh_gives_the_statistics_and_gradients_of_the_global_batch(model, trained):
  with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=1, sequence=4))):
    outputs, stats, grads = training_pass(model)
  assert_close(outputs, trained[0], 1e-4)
  assert_close(stats, trained[1], 1e-4)
  assert_close(grads, trained[2], 1e-3)


def test_heads_start_at_what_training_data_says(model):
  assert float(model.gene_density.linear.bias[0]) == pytest.approx(0.9)
  assert float(model.operon_membership.linear.bias[0]) == pytest.approx(np.log(0.58 / 0.42))
  assert not np.asarray(model.gene_expression.linear.bias).any()
  kernel = np.asarray(model.gene_density.linear.kernel)
  limit = np.sqrt(6 / sum(kernel.shape))  # Glorot & Bengio 2010, equation 16
  assert 0.6 * limit < np.abs(kernel).max() <= limit


def test_predictions_start_near_what_the_biases_say(trained):
  expression, density, logit = (np.asarray(trained[0][name]) for name in HEADS)
  assert np.mean(expression**2) < 0.15  # of targets with variance 1
  assert abs(density.mean() - 0.9) < 0.3
  assert abs(logit.mean() - np.log(0.58 / 0.42)) < 0.3


def test_operon_head_is_finite_without_operons():
  table = dataclasses.replace(TABLE, operon_prevalence=0.0, has_operons=False)
  bias = OperonMembershipHead(4, table, rngs=Keys(jax.random.key(0))).linear.bias
  assert np.isfinite(bias[0])


def test_dropout_zeroes_a_share_and_keeps_the_mean():
  x = jnp.ones((10, 10, 100))
  y = dropout(x, 0.25, jax.random.key(0))
  assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
  assert np.mean(y == 0) == pytest.approx(0.25, abs=0.02)
  assert dropout(x, 0.25, None) is x
  assert dropout(x, 0.0, jax.random.key(0)) is x


def test_dropout_by_window_zeroes_features_of_whole_windows():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 7, 40)))
  kept = np.asarray(dropout(x, 0.25, jax.random.key(0), "window")) / x
  assert ((kept == 0) == (kept[:, :1] == 0)).all()
  assert np.mean(kept == 0) == pytest.approx(0.25, abs=0.03)
  np.testing.assert_allclose(kept[kept != 0], 1 / 0.75, rtol=1e-6)


def test_dropout_happens_with_a_key_alone(model):
  dropped = like(model, head_dropout=0.5)
  run = nnx.jit(lambda m, key: m(sequence(), ORGANISM, dropout_key=key))
  one, same, other = (run(dropped, jax.random.key(i)) for i in (1, 1, 2))
  assert_close(one, same, 0)
  for name, value in one.items():
    assert np.allclose(value, other[name]) == (name in ("gene_density", "gene_structure")), name


def test_unknown_bases_encode_to_zeros(model):
  call = nnx.jit(lambda m, s: m(s, ORGANISM))
  unknown = jnp.where(sequence() == 4, 200, sequence()).astype(jnp.uint8)
  assert_close(call(model, unknown), call(model, sequence()), 0)


def test_length_must_be_whole_pair_bins(model):
  for length in (3000, 1536, 64, 0):
    with pytest.raises(
      ValueError, match=f"{length} bp; expected 128, .*, 1024 or a multiple of 2048"
    ):
      nnx.eval_shape(lambda m, n=length: m(jnp.zeros((2, n), jnp.uint8), ORGANISM), abstract())


@pytest.mark.parametrize("length", [128, 1024])
def test_the_bins_of_less_than_a_pair_are_repeated_in_the_tower_alone(model, length):
  short, many = sequence()[:, :length], 2048 // length
  x, _ = model.encoder(jax.nn.one_hot(short, 4))
  bins, pair = model.tower(x)
  whole, whole_pair = model.tower(jnp.tile(x, (1, many, 1)))
  assert_close(bins, whole[:, : length // 128], 0)
  assert_close(pair, whole_pair, 0)
  found = model(short, ORGANISM)
  assert found["gene_expression"].shape[1] == length
  assert found["gene_density"].shape[1] == length // 128


def test_every_parameter_names_its_axes():
  for path, variable in nnx.to_flat_state(nnx.state(abstract(), nnx.Any(nnx.Param, RunningStat))):
    assert len(variable.get_metadata()["axes"]) == len(variable.shape), path


def test_parameter_table_adds_up(model):
  lines = FunctionalModel.of(lambda key: abstract()).parameter_table().splitlines()
  counts = [int(line.split()[1].replace(",", "")) for line in lines]
  assert sum(counts[:-1]) == counts[-1]
  assert counts[-1] == sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))


def test_mean_of_strands_is_that_of_values_in_forward_order():
  """Of outputs that know direction and place; logits are those of mean probabilities."""
  names = {"heat+": "+", "cold": ".", "heat-": "-"}
  tracks = tuple(ExpressionTrack(name, strand, (), 0.0, 1.0) for name, strand in names.items())
  table, rng = TrackTable(tracks, 0.9, 0.58, True, True), np.random.default_rng(0)
  kernels = {
    name: rng.normal(0, 0.05, (4, head.channels or 3)).astype(np.float32)
    for name, head in schema.HEADS.items()
  }

  def forward(codes):
    so_far = jnp.cumsum(jax.nn.one_hot(codes, 4), axis=1)
    return {
      name: so_far[:, :: head.resolution_bp] @ kernels[name] for name, head in schema.HEADS.items()
    }

  codes = np.asarray(sequence())
  found = mean_of_strands(forward, jnp.asarray(codes), table)
  ahead = forward(codes)
  other = forward(np.stack([reverse_complement(row) for row in codes]))
  order = {
    "gene_expression": [2, 1, 0],
    "gene_structure": [4, 5, 6, 7, 0, 1, 2, 3],
    "operon_junction": [1, 0],
  }
  assert found.keys() == schema.HEADS.keys()
  for name, values in found.items():
    a, b = (np.asarray(x, np.float64) for x in (ahead[name], other[name][:, ::-1]))
    b = b[..., order.get(name, [0])]
    shown = special.expit if schema.HEADS[name].output == "sigmoid" else np.asarray
    mean = (shown(a) + shown(b)) / 2
    np.testing.assert_allclose(shown(np.asarray(values)), mean, rtol=1e-4, atol=1e-5, err_msg=name)


def test_mean_of_strands_of_sure_logits_is_finite():
  logits = iter([[200.0, -200.0, 200.0, 0.0], [-200.0, 200.0, -200.0, 200.0]])

  def forward(codes):
    return {"operon_membership": jnp.asarray(next(logits))[None, :, None]}

  found = mean_of_strands(forward, jnp.zeros((1, 4), jnp.uint8), TABLE)["operon_membership"]
  np.testing.assert_allclose(found[0, :, 0], [200, -200, 200, special.logit(0.25)], rtol=1e-6)


def test_keys_are_those_of_nnx_rngs():
  keys, rngs = Keys(jax.random.key(3)), nnx.Rngs(jax.random.key(3))
  for _ in range(3):
    assert jnp.array_equal(jax.random.key_data(keys.params()), jax.random.key_data(rngs.params()))


@pytest.mark.parametrize("of", ["base", "window"])
def test_windows_embedded_one_by_one_are_those_of_any_mesh(model, of):
  """With recomputation; as many at once as there are devices for. Dropout is each window's own."""
  dropped = like(model, head_dropout=0.5, head_dropout_of=of, remat=True)
  graph, values = nnx.split(dropped)
  rng = np.random.default_rng(0)
  x, bins = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((4, 256, 8), (4, 2, 40)))
  keys = dict.fromkeys(schema.HEADS, jax.random.key(1))

  @jax.jit
  def read(values):
    merged = nnx.merge(graph, values, copy=True)
    heads = {name: getattr(merged, name) for name in ("gene_expression", "gene_structure")}
    outputs = merged._read_by_window(heads, x, jnp.zeros(4, jnp.int32), bins, keys)
    return outputs, merged.embed_one_bp.norm.mean_square[...]

  alone = read(values)
  with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=2, sequence=2))):
    assert_close(read(values), alone, 1e-5)
  whole = dropped.embed_one_bp(x, jnp.zeros(4, jnp.int32), bins, train=True)
  assert_close(alone[0]["gene_structure"], dropped.gene_structure(whole), 1e-5)
  assert_close(alone[1], dropped.embed_one_bp.norm.mean_square[...], 1e-6)
