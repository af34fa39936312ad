"""The quality report: every record that was skipped or repaired, counted by reason."""

import dataclasses
import logging
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Any

from alphaecoli.errors import DataError
from alphaecoli.genomics.text import cut

LOGGER = logging.getLogger(__name__)

MAX_EXAMPLES = 5
LEAST_MATCH = 0.5  # share of a table's names that must match
GOOD_MATCH = 0.9  # share below which a warning shows examples
MAX_NAME = 40  # letters of a name in a message


def shown(names: Iterable[str], most: int = 3) -> str:
  """Joins the first different names for a message, each cut to `MAX_NAME` letters."""
  first = list(islice(dict.fromkeys(names), most + 1))
  return ", ".join(cut(n, MAX_NAME) for n in first[:most]) + (", …" if len(first) > most else "")


def check_names_match(
  source: object,
  names: Collection[str],
  unmatched: Collection[str],
  known: Iterable[str],
  kind: str = "gene of the annotation",
) -> None:
  """Checks that a file's names belong to what they should name, such as genes of an annotation.

  Fewer than half of them: an error with examples of both sides. Fewer than nine in ten: a warning
  with the same. Names that are known but of no use, such as genes that are left out, match.

  Args:
    source: file that holds the names, as messages should call it.
    names: its names, each once.
    unmatched: those of them that match nothing.
    known: names that they could match, in an order of which the first are good examples.
    kind: kind of thing that `known` names.

  Raises:
    DataError: fewer than half match.
  """
  missed, total = len(unmatched), len(names)
  if not missed or total - missed >= GOOD_MATCH * total:
    return
  text = (
    f"{source}: {missed} of {total} names match no {kind}: it has {shown(unmatched)}; known are "
    f"{shown(known) or 'none'}"
  )
  if total - missed < LEAST_MATCH * total:
    raise DataError(f"{text}. Do they belong together? Fewer than half of the names match")
  LOGGER.warning("%s", text)


@dataclasses.dataclass
class _Entry:
  """Count, examples and data sets of one reason."""

  count: int = 0
  examples: list[str] = dataclasses.field(default_factory=list)
  datasets: dict[str, int] = dataclasses.field(default_factory=dict)


class QualityReport:
  """Counts by reason, in the order in which the reasons first came up.

  `total` counts plain amounts (documents read, genes kept), `count` skipped or repaired records.
  """

  def __init__(self) -> None:
    self._totals: dict[str, int] = {}
    self._entries: dict[str, _Entry] = {}

  def total(self, name: str, n: int = 1) -> None:
    """Adds to a plain amount, such as the documents of a file."""
    self._totals[name] = self._totals.get(name, 0) + n

  def count(
    self, reason: str, n: int = 1, example: str | None = None, dataset: str | None = None
  ) -> None:
    """Counts `n` records under `reason`, keeping a few examples and every data set's name."""
    if n:
      entry = self._entries.setdefault(reason, _Entry())
      entry.count += n
      room = len(entry.examples) < MAX_EXAMPLES
      if room and example is not None and example not in entry.examples:
        entry.examples.append(example)
      if dataset is not None:
        entry.datasets[dataset] = entry.datasets.get(dataset, 0) + n

  def __getitem__(self, reason: str) -> int:
    """Returns how often a reason was counted; 0 if never."""
    return self._entries[reason].count if reason in self._entries else 0

  @classmethod
  def from_json(cls, value: Mapping[str, Any]) -> "QualityReport":
    """Converts from the JSON object of `to_json`."""
    report = cls()
    report._totals = dict(value["totals"])
    report._entries = {reason: _Entry(**entry) for reason, entry in value["problems"].items()}
    return report

  @property
  def reasons(self) -> dict[str, int]:
    """Returns the count of every reason."""
    return {reason: entry.count for reason, entry in self._entries.items()}

  @property
  def totals(self) -> dict[str, int]:
    """Returns plain amounts by name."""
    return dict(self._totals)

  def to_json(self) -> dict[str, Any]:
    """Returns `{"totals": {name: n}, "problems": {reason: {count, examples, datasets}}}`."""
    return {
      "totals": dict(self._totals),
      "problems": {r: dataclasses.asdict(e) for r, e in self._entries.items()},
    }

  def table(self) -> str:
    """Formats the report as aligned lines for the log."""
    rows = [(f"{n:,}", name) for name, n in self._totals.items()]
    rows += [(f"{e.count:,}", _describe(r, e)) for r, e in self._entries.items()]
    width = max((len(n) for n, _ in rows), default=0)
    return "\n".join(["quality report", *(f"  {n:>{width}}  {text}" for n, text in rows)])


def _describe(reason: str, entry: _Entry) -> str:
  """Formats a reason with the names of data sets, or examples."""
  names = list(entry.datasets) or entry.examples
  shown = ", ".join(names[:MAX_EXAMPLES])
  more = len(names) - MAX_EXAMPLES if entry.datasets else entry.count - len(entry.examples)
  if not shown:
    return reason
  return f"{reason} ({shown}{', …' if more > 0 else ''})"
