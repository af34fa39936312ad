"""The U-Net around the transformer: 1 bp to 128 bp bins and back.

Source: Avsec et al., AlphaGenome (Nature 2026), Supplementary Information, SequenceEncoder and
SequenceDecoder.
"""

import itertools

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32

from alphaecoli.model.layers import (
  Conv,
  Keys,
  PointwiseConv,
  RMSBatchNorm,
  StandardizedConv,
  gelu,
  max_pool,
  parameter,
  run_block,
  upsample,
)
from alphaecoli.parallel.sharding import pin
from alphaecoli.schema import ModelConfig

N_DOWN_BLOCKS = 6  # and one more pooling: 2 ** 7 = 128 bp


def level_channels(config: ModelConfig) -> list[int]:
  """Returns the features at 1, 2, 4, ... 64 bp; bins of 128 bp have those of 64 bp."""
  return [config.channels + i * config.channel_step for i in range(N_DOWN_BLOCKS + 1)]


class ConvBlock(nnx.Module):
  """Norm, GELU, convolution; with width 1 the convolution is a plain linear map."""

  def __init__(self, n_in: int, n_out: int, width: int, config: ModelConfig, *, rngs: Keys):
    self.norm = RMSBatchNorm(n_in, decay=config.batch_norm_decay, rngs=rngs)
    self.conv: nnx.Module
    if width == 1:
      self.conv = PointwiseConv(n_in, n_out, rngs=rngs)
    else:
      self.conv = StandardizedConv(n_in, n_out, width, rngs=rngs)

  def __call__(
    self,
    x: Float[Array, "B S I"],
    factor: Float32[Array, ""] | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, "B S O"]:
    """Applies the block; a factor, which only widths above 1 take, multiplies the result."""
    factors = () if factor is None else (factor,)
    return self.conv(gelu(self.norm(x, train=train)), *factors)  # type: ignore[operator]


class DNAEmbedder(nnx.Module):
  """A wide plain convolution of the bases, then a residual convolution block."""

  def __init__(self, config: ModelConfig, *, rngs: Keys):
    features = config.channels
    self.conv = Conv(4, features, config.first_conv_width, rngs=rngs)
    self.block = ConvBlock(features, features, config.conv_width, config, rngs=rngs)

  def __call__(self, x: Float[Array, "B S 4"], *, train: bool = False) -> Float[Array, "B S C"]:
    x = self.conv(x)
    return pin(x + self.block(x, train=train))


class DownBlock(nnx.Module):
  """Two residual convolution blocks; the first widens, its shortcut padded with zero features."""

  def __init__(self, n_in: int, n_out: int, config: ModelConfig, *, rngs: Keys):
    self.first = ConvBlock(n_in, n_out, config.conv_width, config, rngs=rngs)
    self.second = ConvBlock(n_out, n_out, config.conv_width, config, rngs=rngs)

  def __call__(self, x: Float[Array, "B S I"], *, train: bool = False) -> Float[Array, "B S O"]:
    y = self.first(x, train=train)
    y = y + jnp.pad(x, ((0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
    y = y + self.second(y, train=train)
    return pin(y)


class Encoder(nnx.Module):
  """Bases to 128 bp bins, keeping the activations at 1 to 64 bp for the decoder."""

  def __init__(self, config: ModelConfig, *, rngs: Keys):
    self.remat = config.recomputed
    channels = level_channels(config)
    self.dna_embedder = DNAEmbedder(config, rngs=rngs)
    self.down_blocks = nnx.List(
      [DownBlock(a, b, config, rngs=rngs) for a, b in itertools.pairwise(channels)]
    )

  def __call__(
    self, x: Float[Array, "B S 4"], *, train: bool = False
  ) -> tuple[Float[Array, "B N D"], list[Float[Array, "B _S _C"]]]:
    x = run_block(self.dna_embedder, x, train=train, remat=self.remat)
    skips = [x]
    for block in self.down_blocks:
      x = run_block(block, x, train=train, remat=self.remat, before=max_pool)
      skips.append(x)
    return pin(max_pool(x)), skips


class UpBlock(nnx.Module):
  """Doubles the resolution and adds what the encoder saw at that resolution."""

  def __init__(self, n_in: int, n_out: int, config: ModelConfig, *, rngs: Keys):
    self.conv_in = ConvBlock(n_in, n_out, config.conv_width, config, rngs=rngs)
    self.skip = ConvBlock(n_out, n_out, 1, config, rngs=rngs)
    self.conv_out = ConvBlock(n_out, n_out, config.conv_width, config, rngs=rngs)
    self.residual_scale = parameter((), (), nnx.initializers.ones_init(), rngs)

  def __call__(
    self, x: Float[Array, "B S I"], skip: Float[Array, "B 2*S O"], *, train: bool = False
  ) -> Float[Array, "B 2*S O"]:
    scale = self.residual_scale[...]
    shortcut = x[..., : skip.shape[-1]] * scale.astype(x.dtype)
    y = self.conv_in(x, scale, train=train) + shortcut
    y = upsample(y, 2) + self.skip(skip, train=train)
    y = y + self.conv_out(y, train=train)
    return pin(y)


class Decoder(nnx.Module):
  """128 bp bins back to bases."""

  def __init__(self, config: ModelConfig, *, rngs: Keys):
    self.remat = config.recomputed
    channels = level_channels(config)[::-1]
    self.up_blocks = nnx.List(
      [
        UpBlock(a, b, config, rngs=rngs)
        for a, b in zip(channels[:1] + channels, channels, strict=False)
      ]
    )

  def __call__(
    self, x: Float[Array, "B N D"], skips: list[Float[Array, "B _S _C"]], *, train: bool = False
  ) -> Float[Array, "B S C"]:
    for block, skip in zip(self.up_blocks, reversed(skips), strict=True):
      x = run_block(block, x, skip, train=train, remat=self.remat)
    return x
