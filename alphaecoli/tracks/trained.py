"""The organisms a checkpoint was trained on, and how one is chosen."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from alphaecoli.errors import ConfigError
from alphaecoli.tracks.table import TrackTable


@dataclasses.dataclass(frozen=True, slots=True)
class TrainedOrganism:
  """One organism of a checkpoint; its place in the list is its row of the embedding.

  Attributes:
    name: as it was prepared; of a RegulonDB dump, the chromosome's.
    table: its tracks with its own statistics.
    store_fingerprint: of its track store.
  """

  name: str
  table: TrackTable
  store_fingerprint: str

  def to_json(self) -> dict[str, Any]:
    """A JSON object that `organisms_of` reads back."""
    return {
      "name": self.name,
      "table": self.table.to_json(),
      "store_fingerprint": self.store_fingerprint,
    }


def organisms_of(meta: Mapping[str, Any]) -> tuple[TrainedOrganism, ...]:
  """The organisms of a checkpoint's meta item; an older one has one, without a name.

  Raises:
    KeyError or TypeError: it is broken.
  """
  if "organisms" not in meta:
    table = TrackTable.from_json(meta["table"])
    return (TrainedOrganism("", table, meta.get("store_fingerprint", "")),)
  return tuple(
    TrainedOrganism(o["name"], TrackTable.from_json(o["table"]), o["store_fingerprint"])
    for o in meta["organisms"]
  )


def choose_organism(organisms: Sequence[TrainedOrganism], organism: str | int | None) -> int:
  """The row of an organism.

  Args:
    organisms: of a checkpoint.
    organism: name or row; may be left out where there is one.

  Raises:
    ConfigError: there is no such organism, or there are several and none is named.
  """
  names = [o.name for o in organisms]
  if organism is None:
    if len(names) == 1:
      return 0
    raise ConfigError(
      f"this checkpoint knows {len(names)} organisms: {', '.join(names)}; choose one with "
      "--organism (in Python: organism=…)"
    )
  if organism in names:
    return names.index(str(organism))
  if str(organism).isdecimal() and int(organism) < len(names):
    return int(organism)
  raise ConfigError(
    f"organism={organism}; this checkpoint knows {', '.join(filter(None, names)) or 'one'}"
    f" (rows 0 to {len(names) - 1})"
  )
