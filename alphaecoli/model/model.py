"""AlphaEcoli: AlphaGenome's trunk with three heads for a bacterial genome."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32, Int, PRNGKeyArray, UInt8

from alphaecoli.model.convolutions import Decoder, Encoder, level_channels
from alphaecoli.model.heads import (
  GeneDensityHead,
  GeneExpressionHead,
  OperonMembershipHead,
  OutputEmbedder,
  OutputPair,
  dropout,
)
from alphaecoli.model.layers import OrganismEmbedding, run_block
from alphaecoli.model.transformer import Tower
from alphaecoli.parallel.sharding import pin
from alphaecoli.schema import PAIR_BP, ModelConfig
from alphaecoli.tracks.track_table import TrackTable


class Embeddings(NamedTuple):
  """What the trunk knows about each base, each bin of 128 bp and each pair of 2,048 bp."""

  one_bp: Float[Array, "B S C"]
  bins: Float[Array, "B N D"]
  pair: Float[Array, "B P P F"]


class AlphaEcoli(nnx.Module):
  """Sequence to gene expression, gene density and operon membership.

  Source: trunk, Avsec et al., AlphaGenome (Nature 2026), Supplementary Information.
  """

  def __init__(self, config: ModelConfig, table: TrackTable, *, rngs: nnx.Rngs):
    self.dtype = jnp.dtype(config.compute_dtype)
    self.remat, self.head_dropout = config.remat, config.head_dropout
    features = level_channels(config)[-1]
    self.encoder = Encoder(config, rngs=rngs)
    self.organism = OrganismEmbedding(config.n_organisms, features, rngs=rngs)
    self.tower = Tower(features, config, rngs=rngs)
    self.decoder = Decoder(config, rngs=rngs)
    self.embed_bins = OutputEmbedder(features, 0, config, rngs=rngs)
    self.embed_one_bp = OutputEmbedder(config.channels, 2 * features, config, rngs=rngs)
    self.embed_pair = OutputPair(config, rngs=rngs)
    self.gene_expression = GeneExpressionHead(2 * config.channels, len(table.names), rngs=rngs)
    self.gene_density = GeneDensityHead(2 * features, table.density_mean, rngs=rngs)
    self.operon_membership = OperonMembershipHead(
      2 * config.channels, table.operon_prevalence, rngs=rngs
    )

  def embed(
    self, sequence: UInt8[Array, "B S"], organism: Int[Array, "B"], *, train: bool = False
  ) -> Embeddings:
    """The trunk.

    Args:
      sequence: bases A C G T as 0 1 2 3; anything else is unknown and encodes to zeros.
      organism: row of the organism embedding.
      train: use and update batch statistics.

    Raises:
      ValueError: the length is not a multiple of 2,048.
    """
    length_bp = sequence.shape[1]
    if length_bp % PAIR_BP or not length_bp:
      raise ValueError(f"a sequence of {length_bp} bp; expected a multiple of {PAIR_BP}")
    x = pin(jax.nn.one_hot(sequence, 4, dtype=self.dtype))
    x, skips = self.encoder(x, train=train)
    x = x + self.organism(organism).astype(x.dtype)[:, None]
    x, pair = self.tower(x, train=train)
    bins = self.embed_bins(x, organism, train=train)
    x = self.decoder(x, skips, train=train)
    one_bp = run_block(self.embed_one_bp, x, organism, bins, train=train, remat=self.remat)
    return Embeddings(
      pin(one_bp),
      pin(bins),
      self.embed_pair(pair, organism),
    )

  def __call__(
    self,
    sequence: UInt8[Array, "B S"],
    organism: Int[Array, "B"],
    *,
    train: bool = False,
    dropout_key: PRNGKeyArray | None = None,
  ) -> dict[str, Float32[Array, "B _S _T"]]:
    """Raw outputs, float32.

    Args:
      sequence: bases A C G T as 0 1 2 3; anything else is unknown.
      organism: row of the organism embedding.
      train: use and update batch statistics.
      dropout_key: for dropout on the heads' inputs, which happens only with a key.

    Returns:
      gene_expression (B, S, T) z-scores, gene_density (B, N, 1) genes per bin,
      operon_membership (B, S, 1) logits.
    """
    embeddings = self.embed(sequence, organism, train=train)
    inputs = [embeddings.one_bp, embeddings.bins, embeddings.one_bp]
    if dropout_key is not None:
      keys = jax.random.split(dropout_key, 3)
      inputs = [dropout(x, self.head_dropout, key) for x, key in zip(inputs, keys, strict=True)]
    return {
      "gene_expression": self.gene_expression(inputs[0]),
      "gene_density": self.gene_density(inputs[1]),
      "operon_membership": self.operon_membership(inputs[2]),
    }
