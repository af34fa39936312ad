"""AlphaEcoli: AlphaGenome's trunk with the heads of a bacterial genome; both strands averaged."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32, Int, PRNGKeyArray, UInt8

from alphaecoli.model.convolutions import Decoder, Encoder, level_channels
from alphaecoli.model.heads import OutputEmbedder, OutputPair, dropout, sum_parts
from alphaecoli.model.layers import Keys, OrganismEmbedding, map_parts, run_block
from alphaecoli.model.transformer import Tower
from alphaecoli.parallel.sharding import n_window_shards, pin
from alphaecoli.schema import BIN_BP, HEADS, PAIR_BP, Head, ModelConfig
from alphaecoli.tracks.track_table import TrackTable

# Codes, or one-hot rows for derivatives by them: A C G T in four columns, unknown bases are zeros.
Bases = UInt8[Array, "B S"] | Float[Array, "B S 4"]

PARTS_BP = (128, 256, 512, 1024)  # shorter sequences: their bins fill a pair's 2,048 bp repeated


class Embeddings(NamedTuple):
  """Embeddings of each base, each bin of 128 bp and each pair of 2,048 bp."""

  one_bp: Float[Array, "B S C"]
  bins: Float[Array, "B N D"]
  pair: Float[Array, "B P P F"]


class AlphaEcoli(nnx.Module):
  """Sequence to the outputs of each head: `schema.HEADS` says which there are.

  Source: trunk, Avsec et al., AlphaGenome (Nature 2026), Supplementary Information.
  """

  def __init__(
    self,
    config: ModelConfig,
    table: TrackTable,
    heads: Mapping[str, Head] = HEADS,
    *,
    rngs: Keys,
  ):
    self.remat, self.dtype = config.recomputed, jnp.dtype(config.compute_dtype)
    self.head_dropout, self.head_dropout_of = config.head_dropout, config.head_dropout_of
    features = level_channels(config)[-1]
    self.encoder = Encoder(config, rngs=rngs)
    self.organism = OrganismEmbedding(config.n_organisms, features, rngs=rngs)
    self.tower = Tower(features, config, rngs=rngs)
    self.decoder = Decoder(config, rngs=rngs)
    self.embed_bins = OutputEmbedder(features, 0, config, rngs=rngs)
    self.embed_one_bp = OutputEmbedder(config.channels, 2 * features, config, rngs=rngs)
    self.embed_pair = OutputPair(config, rngs=rngs)
    self.heads = dict(heads)  # the table, in the order of the outputs
    widths = {1: 2 * config.channels, BIN_BP: 2 * features}
    for head in self.heads.values():
      build = _class_of(head)
      setattr(self, head.name, build(widths[head.resolution_bp], table, rngs=rngs))

  def embed(self, sequence: Bases, organism: Int[Array, "B"], *, train: bool = False) -> Embeddings:
    """Runs the trunk.

    Args:
      sequence: bases A C G T as 0 1 2 3; anything else is unknown and encodes to zeros. Or what
        these encode to.
      organism: row of the organism embedding.
      train: whether to use and update batch statistics.

    Raises:
      ValueError: the length is no multiple of 2,048, nor 128, 256, 512 or 1,024.
    """
    x, bins, pair = self._trunk(sequence, organism, train=train)
    one_bp = run_block(self.embed_one_bp, x, organism, bins, train=train, remat=self.remat)
    return Embeddings(pin(one_bp), bins, self.embed_pair(pair, organism))

  def _trunk(
    self,
    sequence: Bases,
    organism: Int[Array, "B"],
    *,
    train: bool,
    tower_bp: tuple[int, int] | None = None,
  ) -> tuple[Float[Array, "B S C"], Float[Array, "B N D"], Float[Array, "_W P P F"]]:
    """Returns what the decoder ends with, the bins' embedding and the pair activations."""
    length_bp = sequence.shape[1]
    window_bp, margin_bp = tower_bp or (length_bp, 0)
    if window_bp not in PARTS_BP and (window_bp % PAIR_BP or not window_bp):
      parts = ", ".join(map(str, PARTS_BP))
      raise ValueError(f"a sequence of {window_bp} bp; expected {parts} or a multiple of {PAIR_BP}")
    if length_bp < window_bp or (length_bp - window_bp) % (window_bp - 2 * margin_bp):
      raise ValueError(f"{length_bp} bp are no windows of {window_bp} bp with margins {margin_bp}")
    encoded = sequence.ndim == 3
    x = sequence.astype(self.dtype) if encoded else jax.nn.one_hot(sequence, 4, dtype=self.dtype)
    x = pin(x)
    x, skips = self.encoder(x, train=train)
    x = x + self.organism(organism).astype(x.dtype)[:, None]
    if tower_bp is None:
      x, pair = self.tower(x, train=train)
    else:
      x, pair = self.tower.by_window(x, window_bp // BIN_BP, margin_bp // BIN_BP)
    bins = self.embed_bins(x, organism, train=train)
    return self.decoder(x, skips, train=train), pin(bins), pair

  def __call__(
    self,
    sequence: Bases,
    organism: Int[Array, "B"],
    *,
    train: bool = False,
    dropout_key: PRNGKeyArray | None = None,
    tower_bp: tuple[int, int] | None = None,
  ) -> dict[str, Float32[Array, "B _S _T"]]:
    """Returns raw outputs, float32.

    Args:
      sequence: bases, as for `embed`.
      organism: row of the organism embedding.
      train: whether to use and update batch statistics.
      dropout_key: key of the dropout on the heads' inputs, which happens only with one.
      tower_bp: for a sequence of several overlapping windows, their length and margin: convolutions
        run once over all of it, the tower as `Tower.by_window`. None: the sequence is one window.

    Returns:
      Of each head: gene_expression (B, S, T) z-scores, gene_density (B, N, 1) genes per bin,
      operon_membership (B, S, 1), gene_structure (B, S, 8) and operon_junction (B, S, 2) logits.
    """
    x, bins, _ = self._trunk(sequence, organism, train=train, tower_bp=tower_bp)
    keys: Any = [None] * len(self.heads)
    if dropout_key is not None:
      keys = jax.random.split(dropout_key, len(self.heads))
    keys = dict(zip(self.heads, keys, strict=True))
    heads: dict[int, dict[str, nnx.Module]] = {1: {}, BIN_BP: {}}
    for name, head in self.heads.items():
      heads[head.resolution_bp][name] = getattr(self, name)

    if self.remat and train and not any(map(_has_statistics, heads[1].values())):
      found = self._read_by_window(heads[1], x, organism, bins, keys)
    else:
      one_bp = run_block(self.embed_one_bp, x, organism, bins, train=train, remat=self.remat)
      found = self._read(heads[1], pin(one_bp), keys)
    found |= self._read(heads[BIN_BP], bins, keys)
    return {name: found[name] for name in self.heads}

  def _read_by_window(
    self,
    heads: Mapping[str, Any],
    x: Float[Array, "B S C"],
    organism: Int[Array, "B"],
    bins: Float[Array, "B N D"],
    keys: Mapping[str, Any],
  ) -> dict[str, Any]:
    """Embeds bases and applies their heads in training, one window of each device at a time.

    The embeddings of bases are the largest arrays of all; those of one window are all that exists.
    """
    embed = self.embed_one_bp
    mesh = jax.sharding.get_abstract_mesh()
    shards = 1 if mesh.empty else n_window_shards(mesh)
    parts = len(x) // shards if len(x) % shards == 0 else 1

    definition, values = nnx.split(embed)

    def mean_squares(values: Any, x: Array, bins: Array) -> Array:
      y = nnx.merge(definition, values).project(x, bins)
      return jnp.square(y.astype(jnp.float32)).mean(1)

    def outputs(x: Array, organism: Array, bins: Array, window: Array) -> dict[str, Any]:
      y = embed.activate(embed.norm.divide(embed.project(x, bins), mean_square), organism)
      each = jax.vmap(jax.random.fold_in, (None, 0))
      own = {name: None if key is None else each(key, window) for name, key in keys.items()}
      return self._read(heads, y, own)

    mean_square = embed.norm.mean_square[...]
    if not embed.norm.frozen:
      x, total = sum_parts(mean_squares, parts, values, x, bins)
      mean_square = total.mean(0) / parts
      embed.norm.observe(mean_square)
    return map_parts(outputs, parts, x, organism, bins, jnp.arange(len(x)), axis=0)

  def _read(self, heads: Mapping[str, Any], x: Array, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Applies heads to an embedding; late ones to what dropout leaves of it."""
    outputs = {}
    for name, head in heads.items():
      # The others have labels everywhere: there is nothing to learn by heart.
      key = keys[name] if self.heads[name].late else None
      outputs[name] = head(dropout(x, self.head_dropout, key, self.head_dropout_of))
    return outputs


def mean_of_strands(
  forward: Callable[[Bases], Mapping[str, Array]],
  sequence: Bases,
  table: TrackTable,
) -> dict[str, Float32[Array, "B _S _T"]]:
  """Averages the outputs for windows and for their reverse complements.

  Means are of what users get: of z-scores, genes per bin and probabilities, so that logits, which
  are returned as they are by one strand, are those of mean probabilities.

  Args:
    forward: function from windows to raw outputs.
    sequence: bases of the windows.
    table: tracks of the model; name+ and name- swap.

  Returns:
    Raw outputs, in the order of the windows' own strand.
  """
  means = {"identity": lambda a, b: (a + b) / 2, "sigmoid": _logit_of_mean}
  own, other = forward(sequence), forward(reverse_complement(sequence))
  found = {}
  for name, values in other.items():
    back, swap = values[:, ::-1], HEADS[name].swap
    if name == "gene_expression":
      swap = table.reverse_order
    # The other strand's forward channel is this strand's reverse channel.
    back = back[..., jnp.array(swap)] if swap else back
    found[name] = means[HEADS[name].output](own[name], back)
  return found


def _logit_of_mean(a: Array, b: Array) -> Array:
  """Returns the logit of the mean of two probabilities, from logits of any size."""
  yes = jnp.logaddexp(jax.nn.log_sigmoid(a), jax.nn.log_sigmoid(b))
  return yes - jnp.logaddexp(jax.nn.log_sigmoid(-a), jax.nn.log_sigmoid(-b))


def reverse_complement(sequence: Bases) -> Bases:
  """Returns the reverse complements of windows; what is not A C G T stays unknown."""
  if sequence.ndim == 3:
    return sequence[:, ::-1, ::-1]
  return jnp.where(sequence < 4, 3 - sequence, sequence)[:, ::-1]


def _has_statistics(head: nnx.Module) -> bool:
  """Returns whether a head has variables that training moves without gradients: statistics."""
  return bool(nnx.to_flat_state(nnx.state(head, nnx.Not(nnx.Param))))


def _class_of(head: Head) -> Any:
  """Imports the layer of a head; by default the class of its name in `heads`."""
  own = "".join(part.capitalize() for part in head.name.split("_")) + "Head"
  name, _, attribute = (head.module or f"alphaecoli.model.heads:{own}").partition(":")
  return getattr(importlib.import_module(name), attribute)
