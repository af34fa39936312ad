"""The small parts: linear maps, convolutions, norms, pooling.

Parameters are float32 and follow the type of the activation they meet (`x.dtype`), so that the
model chooses its compute type once, at its input. Norms and statistics are computed in float32.

Source of the arithmetic: Avsec et al., AlphaGenome (Nature 2026), Methods and Supplementary
Information (pseudocode of the model); checked number by number in tests/model/test_parity.py.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange, reduce, repeat
from flax import nnx
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Float, Float32, Int

from alphaecoli.parallel.sharding import by_interval, constrain, whole

EPSILON = 1e-5  # of every norm
FAN_IN_VARIANCE_FLOOR = 1e-4  # of standardised convolutions
PRODUCT = "product"  # outputs of convolutions and linear maps, nearly all of the arithmetic
# What blocks keep for the backward pass besides their inputs (model.remat_policy; "auto": where
# no run has settled it, which training/run.py does).
_KEEP_PRODUCTS = jax.checkpoint_policies.save_only_these_names(PRODUCT)
POLICIES = {"blocks": None, "products": _KEEP_PRODUCTS, "auto": None}

Initializer = Callable[..., Array]
_fan_in = nnx.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
_zeros = nnx.initializers.zeros_init()
_ones = nnx.initializers.ones_init()


class RunningStat(nnx.Variable):
  """A statistic of activations, updated by the forward pass in training; not a parameter."""


class Keys:
  """Random keys of the parameters, in the order in which they are made: those of `nnx.Rngs`.

  `nnx.Rngs` counts in a variable. While a model is traced, flax looks for the sharding of that
  traced value, and jax's answer, that it has none, searches all that was traced before (flax 0.12.8
  with jax 0.10.2, no longer with 0.12.12 and 0.11.2): most of the time that a model takes to trace.
  """

  def __init__(self, key: Array):
    self._key, self._count = key, itertools.count()

  def params(self) -> Array:
    """Returns the next key."""
    return jax.random.fold_in(self._key, next(self._count))


def parameter(
  shape: tuple[int, ...], axes: tuple[str, ...], init: Initializer, rngs: Keys
) -> nnx.Param:
  """Makes a float32 parameter that names its axes, which parallel/sharding.py reads."""
  return nnx.Param(init(rngs.params(), shape, jnp.float32), axes=axes)


class Linear(nnx.Module):
  """y = x W + b over the last axis."""

  def __init__(
    self,
    n_in: int,
    n_out: int,
    *,
    bias: bool = True,
    init: Initializer = _fan_in,
    bias_init: Initializer = _zeros,
    rngs: Keys,
  ):
    self.kernel = parameter((n_in, n_out), ("in", "out"), init, rngs)
    self.bias = parameter((n_out,), ("out",), bias_init, rngs) if bias else None

  def __call__(
    self, x: Float[Array, "*B I"], *, dtype: DTypeLike | None = None
  ) -> Float[Array, "*B O"]:
    """Applies the layer; `dtype` is the output's; without it, the input's."""
    kernel = whole(self.kernel[...].astype(x.dtype))
    y = checkpoint_name(jnp.matmul(x, kernel, preferred_element_type=dtype), PRODUCT)
    return y if self.bias is None else add_bias(y, self.bias[...])


class Conv(nnx.Module):
  """Convolution over positions, same length, kernel not flipped."""

  def __init__(self, n_in: int, n_out: int, width: int, *, rngs: Keys):
    self.kernel = parameter((width, n_in, n_out), ("width", "in", "out"), _fan_in, rngs)
    self.bias = parameter((n_out,), ("out",), _zeros, rngs)

  def __call__(self, x: Float[Array, "B S I"]) -> Float[Array, "B S O"]:
    return add_bias(convolve(x, self.kernel[...]), self.bias[...])


class PointwiseConv(Linear):
  """A linear map as a convolution of width 1, for use between convolutions.

  XLA for TPUs lays out a product otherwise, where features are no multiple of 128, and copies.
  """

  def __call__(self, x: Float[Array, "B S I"]) -> Float[Array, "B S O"]:  # type: ignore[override]
    return add_bias(convolve(x, self.kernel[...][None]), self.bias[...])  # type: ignore[index]


class StandardizedConv(nnx.Module):
  """Convolution whose kernel has mean 0 and fan-in times variance 1 for every output, scaled.

  Source: AlphaGenome, Supplementary Information, StandardizedConv1D; weight standardisation is
  Qiao et al. 2019, arXiv:1903.10520.
  """

  def __init__(self, n_in: int, n_out: int, width: int, *, rngs: Keys):
    self.kernel = parameter((width, n_in, n_out), ("width", "in", "out"), _fan_in, rngs)
    self.scale = parameter((n_out,), ("out",), _ones, rngs)
    self.bias = parameter((n_out,), ("out",), _zeros, rngs)

  def __call__(
    self, x: Float[Array, "B S I"], factor: Float32[Array, ""] | float = 1.0
  ) -> Float[Array, "B S O"]:
    """Convolves; `factor` multiplies the result, by way of kernel and bias.

    So the factor's gradient needs nothing of the result's size.
    """
    kernel = self.kernel[...]
    fan_in = kernel.shape[0] * kernel.shape[1]
    kernel = kernel - kernel.mean((0, 1), keepdims=True)
    variance = jnp.square(kernel).mean((0, 1))
    gain = self.scale[...] * jax.lax.rsqrt(jnp.maximum(fan_in * variance, FAN_IN_VARIANCE_FLOOR))
    y = convolve(x, kernel * over_last(factor * gain, 3))
    return add_bias(y, factor * self.bias[...])


class RMSBatchNorm(nnx.Module):
  """Divides each feature by its root mean square; the mean is not subtracted.

  In training the mean square is that of the global batch (all windows and positions, over all
  devices) and the running value moves towards it; otherwise, and in training where the norm is
  frozen, the running value is used.

  Source: AlphaGenome, Supplementary Information, RMSBatchNorm.
  """

  def __init__(self, features: int, *, decay: float, scale: float = 1.0, rngs: Keys):
    self.decay = decay  # running = decay * running + (1 - decay) * batch
    self.frozen = False
    self.scale = parameter((features,), ("feature",), nnx.initializers.constant(scale), rngs)
    self.offset = parameter((features,), ("feature",), _zeros, rngs)
    self.mean_square = RunningStat(jnp.ones((features,), jnp.float32), axes=("feature",))

  def __call__(self, x: Float[Array, "B *S C"], *, train: bool = False) -> Float[Array, "B *S C"]:
    if train and not self.frozen:
      mean_square = jnp.square(x.astype(jnp.float32)).mean(tuple(range(x.ndim - 1)))
      self.observe(mean_square)
    else:
      mean_square = self.mean_square[...]
    return self.divide(x, mean_square)

  def observe(self, mean_square: Float32[Array, "C"]) -> None:
    """Moves the running value towards that of a batch."""
    kept = self.decay * self.mean_square[...]
    self.mean_square[...] = kept + (1 - self.decay) * jax.lax.stop_gradient(mean_square)

  def divide(
    self, x: Float[Array, "B *S C"], mean_square: Float32[Array, "C"]
  ) -> Float[Array, "B *S C"]:
    """Divides by the root of the mean squares, scales and shifts."""
    wide = x.astype(jnp.float32)
    gain = self.scale[...] * jax.lax.rsqrt(mean_square + EPSILON)
    y = wide * over_last(gain, x.ndim) + over_last(self.offset[...], x.ndim)
    return y.astype(x.dtype)


class LayerNorm(nnx.Module):
  """Normalises the last axis: centred, or by the root mean square alone.

  Source: AlphaGenome, Supplementary Information, LayerNorm (`rms_norm` where not centred).
  """

  def __init__(self, features: int, *, centred: bool, rngs: Keys):
    self.centred = centred
    self.scale = parameter((features,), ("feature",), _ones, rngs)
    self.offset = parameter((features,), ("feature",), _zeros, rngs)

  def __call__(self, x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
    wide = x.astype(jnp.float32)
    if self.centred:
      wide = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(wide).mean(-1, keepdims=True)
    y = wide * jax.lax.rsqrt(variance + EPSILON) * over_last(self.scale[...], x.ndim)
    return (y + over_last(self.offset[...], x.ndim)).astype(x.dtype)


class OrganismEmbedding(nnx.Module):
  """One learnt vector per organism. The table is small, and whole on every device."""

  def __init__(self, n_organisms: int, features: int, *, rngs: Keys):
    init = nnx.initializers.normal(0.02)
    self.table = parameter((n_organisms, features), ("organism", "feature"), init, rngs)

  def __call__(self, organism: Int[Array, "B"]) -> Float32[Array, "B C"]:
    return self.table[...][organism]


def over_last(vector: Float[Array, "C"], ndim: int) -> Float[Array, "... C"]:
  """Gives a vector over features leading axes of size 1, for an array of `ndim` axes."""
  return vector.reshape((1,) * (ndim - 1) + vector.shape)


def add_bias(x: Float[Array, "*B C"], bias: Float32[Array, "C"]) -> Float[Array, "*B C"]:
  """Adds a bias in the activation's type."""
  return x + over_last(bias.astype(x.dtype), x.ndim)


def convolve(x: Float[Array, "B S I"], kernel: Float32[Array, "W I O"]) -> Float[Array, "B S O"]:
  """Computes the cross-correlation over positions with zeros beyond the ends."""

  def local(x: Any, kernel: Any, padding: tuple[int, int]) -> Any:
    return jax.lax.conv_general_dilated(
      x, kernel, (1,), (padding,), dimension_numbers=("NWC", "WIO", "NWC")
    )

  width = kernel.shape[0]
  y = by_interval(local, x, kernel.astype(x.dtype), reach=((width - 1) // 2, width // 2))
  return checkpoint_name(y, PRODUCT)


def gelu(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
  """Computes x sigmoid(1.702 x), the approximation AlphaGenome's convolutions use.

  Source: Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2.
  """
  return x * jax.nn.sigmoid(1.702 * x)


def max_pool(x: Float[Array, "B S C"]) -> Float[Array, "B S//2 C"]:
  """Takes the maximum over pairs of positions."""

  def local(x: Any) -> Any:
    pairs = rearrange(x, "b (s two) c -> b s two c", two=2)
    return jnp.maximum(pairs[:, :, 0], pairs[:, :, 1])

  return by_interval(local, x, multiple=2)


def mean_pool(x: Float[Array, "B S C"], width: int) -> Float[Array, "B S//{width} C"]:
  """Takes the mean over non-overlapping runs of positions."""
  return by_interval(
    lambda x: reduce(x, "b (s width) c -> b s c", "mean", width=width), x, multiple=width
  )


def upsample(x: Float[Array, "B S C"], times: int) -> Float[Array, "B S*{times} C"]:
  """Repeats each position."""
  return by_interval(lambda x: repeat(x, "b s c -> b (s times) c", times=times), x)


def map_parts(function: Callable[..., Any], parts: int, *arrays: Array, axis: int) -> Any:
  """Applies a function to equal parts of arrays, one after the other.

  What the function computes on its way exists for one part at a time, and again for one part at a
  time in the backward pass, which computes it anew.

  Args:
    function: function of as many arrays, to arrays with the same axis.
    parts: number of parts, a divisor of the axis. Part i has the elements i, i + parts, …: each
      device has its share of all of them where the mesh splits the axis.
    arrays: windows, positions (or rows of pairs), and whatever else.
    axis: axis that is cut, 0 or 1.
  """

  def part(values: list[Array]) -> Any:
    return function(*map(as_window, values))

  # In a loop nothing can merge what is computed anew with what was computed before.
  dealt = [deal(x, parts, axis) for x in arrays]
  found = jax.lax.map(jax.checkpoint(part, prevent_cse=False), dealt)
  return jax.tree.map(lambda x: join(x, axis), found)


def deal(x: Array, parts: int, axis: int) -> Array:
  """Deals every `parts`-th element of an axis to a part, along a new first axis."""
  cut = x.reshape(*x.shape[:axis], x.shape[axis] // parts, parts, *x.shape[axis + 1 :])
  return jnp.moveaxis(cut, axis + 1, 0)


def join(x: Array, axis: int) -> Array:
  """Puts the parts that `deal` made together."""
  x = jnp.moveaxis(x, 0, axis + 1)
  return x.reshape(*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :])


def as_window(x: Array) -> Array:
  """Lays a part out as whole arrays are: windows, positions and whatever else."""
  return constrain(x, *("batch", "position", *(None,) * x.ndim)[: x.ndim])


def parts_of(rows: int, at_most: int) -> int:
  """Returns the least number of equal parts of so many rows or fewer."""
  return next(n for n in range(-(-rows // at_most), rows + 1) if rows % n == 0)


def run_block(
  block: nnx.Module,
  *inputs: Any,
  train: bool,
  remat: str,
  before: Callable[[Array], Array] = lambda x: x,
) -> Any:
  """Calls a block, which the backward pass computes anew with `remat`, one of `POLICIES`.

  What the first input goes through `before` is computed anew too.
  """

  def call(block: Any, x: Array, *others: Any) -> Any:
    return block(before(x), *others, train=train)

  if not (remat and train):
    return call(block, *inputs)
  return nnx.remat(call, policy=POLICIES[remat])(block, *inputs)
