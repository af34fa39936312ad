"""What learns: parts of the model that are frozen, and LoRA factors beside frozen kernels.

Parts go by the names of their variables, such as tower or tower/layers/0. With factors A and B,
W + (alpha / rank) A B takes the place of a frozen kernel W.

Source: LoRA, Hu et al. 2021, arXiv:2106.09685, equation 3.
"""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from alphaecoli.errors import ConfigError, nearest
from alphaecoli.schema import HEADS, InitConfig

TRUNK = "trunk"  # all but the heads
_SHORTHANDS = {"heads": tuple(HEADS), "embedders": ("embed_bins", "embed_one_bp", "embed_pair")}


def is_under(name: str, part: str) -> bool:
  """Returns whether a variable belongs to a part: encoder/dna_embedder/conv/kernel to encoder."""
  return name == part or name.startswith(f"{part}/")


def head_of(name: str) -> str | None:
  """Returns the head that a variable belongs to; None in the trunk."""
  part = name.split("/", maxsplit=1)[0]
  return part if part in HEADS else None


def names_under(names: Iterable[str], parts: Sequence[str]) -> frozenset[str]:
  """Returns the variables of some parts.

  Args:
    names: names of all variables.
    parts: trunk, heads, embedders, or beginnings of names.

  Raises:
    ConfigError: no variable belongs to a part.
  """
  names, found = list(names), set[str]()
  for part in parts:
    if part == TRUNK:
      chosen = {name for name in names if head_of(name) is None}
    else:
      prefixes = _SHORTHANDS.get(part, (part,))
      chosen = {name for name in names if any(is_under(name, prefix) for prefix in prefixes)}
    if not chosen:
      known = sorted({name.split("/")[0] for name in names} | {TRUNK, *_SHORTHANDS})
      near = nearest(part, known, similarity=0.5)
      hint = f"did you mean {near}? " if near else ""
      raise ConfigError(
        f"the model has no part {part!r}; {hint}Parts are {', '.join(known)}, and paths in them "
        "such as tower/layers/0"
      )
    found |= chosen
  return frozenset(found)


def choose_frozen(params: Iterable[str], stats: Iterable[str], init: InitConfig) -> frozenset[str]:
  """Returns the parameters and running statistics of the parts that `init.freeze` names.

  Raises:
    ConfigError: there is no such part, or nothing would learn.
  """
  frozen = names_under([*params, *stats], init.frozen_parts)
  if frozen >= set(params):
    raise ConfigError(f"init.freeze={init.freeze} freezes every parameter: nothing would learn")
  return frozen


def choose_lora_kernels(frozen: Mapping[str, tuple[int, ...]], init: InitConfig) -> tuple[str, ...]:
  """Returns the kernels with factors: linear maps of the trunk, both sides longer than the rank.

  Args:
    frozen: shapes of the frozen parameters, by name.
    init: rank of the factors; with 0 there are none.

  Raises:
    ConfigError: no kernel takes factors of that rank.
  """
  if not init.lora_rank:
    return ()
  kernels = tuple(
    name
    for name, shape in sorted(frozen.items())
    if name.endswith("/kernel") and len(shape) == 2 and head_of(name) is None
    if min(shape) > init.lora_rank
  )
  if not kernels:
    raise ConfigError(
      f"init.lora_rank={init.lora_rank}: no linear map of init.freeze={init.freeze} has sides "
      "longer than that; choose a lower rank or other parts"
    )
  return kernels


def factor_names(kernel: str) -> tuple[str, str]:
  """Returns the names of a kernel's factors A (in, rank) and B (rank, out)."""
  module = kernel.removesuffix("/kernel")
  return f"{module}/lora_a", f"{module}/lora_b"


def abstract_factors(kernel: str, shape: tuple[int, ...], rank: int) -> dict[str, nnx.Variable]:
  """Returns the factors of a kernel, abstract."""
  a, b = factor_names(kernel)
  n_in, n_out = shape
  return {
    a: nnx.Param(jax.ShapeDtypeStruct((n_in, rank), jnp.float32), axes=("in", "rank")),
    b: nnx.Param(jax.ShapeDtypeStruct((rank, n_out), jnp.float32), axes=("rank", "out")),
  }


def fresh_factors(
  key: Array, kernels: Iterable[str], params: Mapping[str, nnx.Variable]
) -> dict[str, Array]:
  """Makes factors whose product is zero: A is random, B is 0."""
  factors = {}
  for name in kernels:
    down, up = factor_names(name)
    n_in, rank = params[down].get_value().shape
    noise = jax.random.normal(jax.random.fold_in(key, zlib.crc32(down.encode())), (n_in, rank))
    factors[down] = noise / math.sqrt(n_in)
    factors[up] = jnp.zeros(params[up].get_value().shape)
  return factors
