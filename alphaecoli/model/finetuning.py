"""The parts of the model by the names of their variables, such as tower or tower/layers/0."""

from collections.abc import Iterable, Sequence

from alphaecoli.errors import ConfigError, nearest
from alphaecoli.schema import HEADS

TRUNK = "trunk"  # all but the heads
_SHORTHANDS = {"heads": tuple(HEADS), "embedders": ("embed_bins", "embed_one_bp", "embed_pair")}


def is_under(name: str, part: str) -> bool:
  """Whether a variable belongs to a part: encoder/dna_embedder/conv/kernel to encoder."""
  return name == part or name.startswith(f"{part}/")


def head_of(name: str) -> str | None:
  """The head that a variable belongs to; None in the trunk."""
  part = name.split("/", maxsplit=1)[0]
  return part if part in HEADS else None


def names_under(names: Iterable[str], parts: Sequence[str]) -> frozenset[str]:
  """The variables of some parts.

  Args:
    names: of all variables.
    parts: trunk, heads, embedders, or what names begin with.

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
