"""The quality report: every record that was skipped or repaired, counted by reason."""

import dataclasses
from typing import Any

MAX_EXAMPLES = 5


@dataclasses.dataclass
class _Entry:
  count: int = 0
  examples: list[str] = dataclasses.field(default_factory=list)
  datasets: dict[str, int] = dataclasses.field(default_factory=dict)

  def add(self, count: int, examples: list[str], datasets: dict[str, int]) -> None:
    self.count += count
    for example in examples:
      if len(self.examples) < MAX_EXAMPLES and example not in self.examples:
        self.examples.append(example)
    for name, n in datasets.items():
      self.datasets[name] = self.datasets.get(name, 0) + n


class QualityReport:
  """Counts by reason, in the order in which the reasons first came up.

  `total` keeps plain amounts (documents read, genes kept), `count` what was skipped or repaired.
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
      entry.add(n, [] if example is None else [example], {} if dataset is None else {dataset: n})

  def merge(self, other: "QualityReport") -> None:
    """Adds another report's counts to this one."""
    for name, n in other._totals.items():
      self.total(name, n)
    for reason, entry in other._entries.items():
      mine = self._entries.setdefault(reason, _Entry())
      mine.add(entry.count, entry.examples, entry.datasets)

  def __getitem__(self, reason: str) -> int:
    """How often a reason was counted; 0 if never."""
    return self._entries[reason].count if reason in self._entries else 0

  def datasets(self, reason: str) -> tuple[str, ...]:
    """Names of the data sets counted under a reason."""
    return tuple(self._entries[reason].datasets) if reason in self._entries else ()

  @property
  def reasons(self) -> dict[str, int]:
    """Every reason with its count."""
    return {reason: entry.count for reason, entry in self._entries.items()}

  @property
  def totals(self) -> dict[str, int]:
    """The plain amounts."""
    return dict(self._totals)

  def to_json(self) -> dict[str, Any]:
    """`{"totals": {name: n}, "problems": {reason: {count, examples, datasets}}}`."""
    return {
      "totals": dict(self._totals),
      "problems": {r: dataclasses.asdict(e) for r, e in self._entries.items()},
    }

  @classmethod
  def from_json(cls, value: dict[str, Any]) -> "QualityReport":
    """Reads what to_json wrote."""
    report = cls()
    for name, n in value["totals"].items():
      report.total(name, n)
    for reason, entry in value["problems"].items():
      report._entries[reason] = _Entry(**entry)
    return report

  def table(self) -> str:
    """The report as aligned lines for the log."""
    rows = [(f"{n:,}", name) for name, n in self._totals.items()]
    rows += [(f"{e.count:,}", _describe(r, e)) for r, e in self._entries.items()]
    width = max((len(n) for n, _ in rows), default=0)
    return "\n".join(["quality report", *(f"  {n:>{width}}  {text}" for n, text in rows)])


def _describe(reason: str, entry: _Entry) -> str:
  names = list(entry.datasets) or entry.examples
  shown = ", ".join(names[:MAX_EXAMPLES])
  more = len(names) - MAX_EXAMPLES if entry.datasets else entry.count - len(entry.examples)
  if not shown:
    return reason
  return f"{reason} ({shown}{', …' if more > 0 else ''})"
