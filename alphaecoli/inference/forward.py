"""The model as a function of windows, compiled once and spread over the devices."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import UInt8

from alphaecoli.checkpoint import load_inference
from alphaecoli.model.model import AlphaEcoli
from alphaecoli.schema import Config, MeshConfig
from alphaecoli.sharding import make_mesh
from alphaecoli.tracks.table import TrackTable

HEADS = ("gene_expression", "gene_density", "operon_membership")
# Windows (B, W) and "average both strands" -> each head: z-scores, genes per bin, probabilities.
Forward = Callable[[UInt8[np.ndarray, "B W"], bool], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class LoadedModel:
  """A checkpoint ready for prediction.

  Attributes:
    forward: the compiled model.
    table: its tracks.
    window_bp: the window it was trained on.
    trained_heads: heads that had data and a loss weight above 0.
    about: checkpoint and configuration, for the record.
  """

  forward: Forward
  table: TrackTable
  window_bp: int
  trained_heads: tuple[str, ...]
  about: dict[str, Any]


def load_forward(checkpoint: Path, devices: Sequence[jax.Device]) -> LoadedModel:
  """Reads a checkpoint and compiles its model for these devices when first called.

  Raises:
    DataError: there is no checkpoint, or it is broken.
  """
  loaded = load_inference(checkpoint, mesh=_mesh(devices))
  return LoadedModel(
    forward=make_forward(loaded.model, loaded.table, devices),
    table=loaded.table,
    window_bp=loaded.config.data.window_bp,
    trained_heads=trained_heads(loaded.config, loaded.table),
    about={"checkpoint": str(loaded.path), "step": loaded.step, "config": loaded.config.to_dict()},
  )


def trained_heads(config: Config, table: TrackTable) -> tuple[str, ...]:
  """The heads that had data and a loss weight above 0."""
  data = {"gene_expression": table.has_expression, "operon_membership": table.has_operons}
  weights = dataclasses.asdict(config.loss.weights)
  return tuple(head for head in HEADS if weights[head] > 0 and data.get(head, True))


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
  """All devices in a row."""
  return make_mesh(MeshConfig(data=-1, fsdp=1, sequence=1), list(devices))


def make_forward(model: AlphaEcoli, table: TrackTable, devices: Sequence[jax.Device]) -> Forward:
  """Compiles a model with its parameters on every device and the windows spread over them."""
  mesh = _mesh(devices)
  everywhere = NamedSharding(mesh, PartitionSpec())
  by_window = NamedSharding(mesh, PartitionSpec("data"))
  graph, state = nnx.split(model)
  state = jax.device_put(state, everywhere)
  order = table.reverse_order

  def outputs(state: nnx.State, codes: Array) -> dict[str, Array]:
    """Window -> z-scores, genes per bin and probabilities."""
    organism = jnp.zeros(len(codes), jnp.int32)
    values = nnx.merge(graph, state)(codes, organism)
    return {**values, "operon_membership": jax.nn.sigmoid(values["operon_membership"])}

  def both_strands(state: nnx.State, codes: Array) -> dict[str, Array]:
    """The mean over the window and its reverse complement, turned back."""
    forward, reverse = outputs(state, codes), outputs(state, reverse_complement(codes))
    turned = {name: values[:, ::-1] for name, values in reverse.items()}
    turned["gene_expression"] = turned["gene_expression"][..., jnp.array(order)]
    return jax.tree.map(lambda a, b: (a + b) / 2, forward, turned)

  compiled = {
    both: jax.jit(run, in_shardings=(everywhere, by_window), out_shardings=by_window)
    for both, run in ((False, outputs), (True, both_strands))
  }

  def forward(windows: UInt8[np.ndarray, "B W"], both: bool) -> dict[str, Any]:
    with jax.set_mesh(mesh):
      return compiled[both](state, jax.device_put(windows, by_window))

  return forward


def reverse_complement(codes: UInt8[Array, "B S"]) -> UInt8[Array, "B S"]:
  """Reverse complements windows; what is not A C G T stays unknown."""
  return jnp.where(codes < 4, 3 - codes, codes)[:, ::-1]
