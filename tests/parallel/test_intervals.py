"""Layers that look at neighbouring positions, these split over devices: those of one device.

By default some layouts on two meshes; `-m "slow or not slow"` runs all.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from alphaecoli.model.layers import Conv, Keys, StandardizedConv, max_pool, mean_pool, upsample
from alphaecoli.parallel.sharding import make_mesh, pin
from alphaecoli.schema import MeshConfig

SHAPES = [
  (1, 1, 2), (1, 1, 3), (1, 1, 4), (1, 1, 8), (2, 1, 2), (1, 2, 2), (2, 2, 2), (2, 1, 4), (1, 2, 4),
  (4, 1, 2), (1, 4, 2), (1, 2, 3), (2, 2, 1), (1, 8, 1),
]  # fmt: skip
MESHES = [  # and one case of so many
  ((2, 2, 2), 7),
  ((1, 1, 8), 4),
  *(pytest.param(shape, 1, marks=pytest.mark.slow) for shape in SHAPES),
]
# Positions of a device, width, input and output features. The two last were wrong by XLA alone:
# with the windows whole, and with the windows split and W I > B S >= I.
CONVOLUTIONS = [
  (1, 5, 8, 8),
  (1, 15, 8, 8),
  (2, 5, 8, 16),
  (2, 15, 8, 8),
  (3, 4, 8, 8),
  (16, 5, 16, 8),
  (256, 5, 64, 64),
  (32, 5, 64, 64),
]
OTHERS = {
  "max_pool": (max_pool, 2),
  "mean_pool": (lambda x: mean_pool(x, 16), 16),
  "upsample": (lambda x: upsample(x, 3), 1),
}


def layers():
  """Name, module without and with parameters' state, and input's features, of every layer."""
  for kind, (interval, width, n_in, n_out) in itertools.product(
    (Conv, StandardizedConv), CONVOLUTIONS
  ):
    module = kind(n_in, n_out, width, rngs=Keys(jax.random.key(0)))
    yield f"{kind.__name__} of {width} to {n_out}", nnx.split(module), interval, n_in
  for name, (_, multiple) in OTHERS.items():
    for interval in (1, 2, 16, 32):
      yield name, (name, nnx.State({})), interval, 6


def apply(graph, state, x):
  return OTHERS[graph][0](x) if isinstance(graph, str) else nnx.merge(graph, state)(x)


def splits(shape, windows, has_kernel):
  """How windows and kernels may lie on a mesh."""
  data, fsdp, _ = shape
  by_windows = [None, *(["data"] if windows % data == 0 < data - 1 else [])]
  by_windows += [("data", "fsdp")] if windows % (data * fsdp) == 0 else []
  by_kernel = [(), (None, None, "fsdp"), (None, "fsdp")] if fsdp > 1 and has_kernel else [()]
  return itertools.product(by_windows, by_kernel)


def cases(shape):
  """Yields a name, the layer, its arrays and how they lie, for everything to try on a mesh."""
  rng = np.random.default_rng(0)
  for name, (graph, fresh), interval, n_in in layers():
    state = jax.tree.map(lambda v: v + rng.normal(size=v.shape).astype(np.float32) / 10, fresh)
    for windows in (1, 2, 8):
      length = interval * shape[2]
      if (windows == 8 and interval > 16) or length % OTHERS.get(name, (None, 1))[1]:
        continue
      x = rng.normal(size=(windows, length, n_in)).astype(np.float32)
      for number, (by_windows, by_kernel) in enumerate(splits(shape, windows, name not in OTHERS)):
        whole = PartitionSpec(by_windows, "sequence" if number % 4 != 3 else None)
        place = jax.tree.map(lambda v, k=by_kernel: PartitionSpec(*k if v.ndim == 3 else ()), state)
        yield (
          f"{name}, {x.shape} split {by_windows}, kernel {by_kernel}",
          graph,
          (state, x),
          (place, whole),
          number % 2 == 0,
        )


def passes(graphs, pinned, inputs):
  """Output, and gradients of parameters and input, of every case."""
  found = []
  for graph, pinned_here, (state, x) in zip(graphs, pinned, inputs, strict=True):

    def loss(state, x, graph=graph, pinned=pinned_here):
      y = apply(graph, state, x)
      y = pin(y) if pinned else y
      weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
      return (weights * y).sum() + jnp.square(y).sum() / 2, y

    (_, y), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(state, x)
    found.append((y, gradients))
  return found


@pytest.mark.parametrize(("shape", "every"), MESHES, ids=str)
def test_layers_and_their_gradients_are_those_of_one_device(shape, every):
  chosen = itertools.islice(cases(shape), 0, None, every)
  names, graphs, inputs, places, pinned = zip(*chosen, strict=True)
  run = jax.jit(passes, static_argnums=(0, 1))
  expected = jax.device_get(run(graphs, pinned, inputs))
  mesh = make_mesh(MeshConfig(*shape), jax.devices()[: math.prod(shape)])
  with jax.set_mesh(mesh):
    where = jax.tree.map(
      lambda spec: NamedSharding(mesh, spec),
      places,
      is_leaf=lambda x: isinstance(x, PartitionSpec),
    )
    found = jax.device_get(run(graphs, pinned, jax.device_put(inputs, where)))
  for name, one, many in zip(names, expected, found, strict=True):
    for (path, a), b in zip(
      jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(many), strict=True
    ):
      apart = np.linalg.norm(a - b) / np.linalg.norm(a)
      assert apart < 1e-6, (name, jax.tree_util.keystr(path), apart)
