"""What a compiled program sends between devices, read from its text (XLA's HLO)."""

import re
from collections.abc import Iterator
from typing import Any

KINDS = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "ragged-all-to-all",
  "collective-permute",
  "collective-broadcast",
)
# A started collective, but for all-reduce, results in its inputs and its outputs.
_STARTED = "-start"
_PAIRED = ("all-gather", "collective-permute")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
_CALLED = re.compile(r"(body|calls|to_apply|condition)=%?([\w.-]+)")
_BRANCHES = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_COLLECTIVE = re.compile(rf" ({'|'.join(KINDS)})({_STARTED})?\(")
_CHANNEL = re.compile(r", channel_id=(\d+)")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\]")
_BITS = re.compile(r"\D+(\d+)")


def collectives(hlo: str) -> dict[str, dict[str, int]]:
  """Counts the collectives of one run of a compiled program, on one device.

  What stands in a loop counts as often as the loop runs, where the compiler knows how often, else
  once. A collective counts once however many instructions start it, carry it on beside other work
  and await it: they share its channel.

  Args:
    hlo: text of a compiled module, as `Compiled.as_text()` gives it.

  Returns:
    For each kind that occurs, by name: `count`, and `bytes` of the results on one device (of a
    reduce-scatter that is its share, of an all-gather the whole).
  """
  computations, entry = _computations(hlo)
  found: dict[str, dict[str, int]] = {}
  channels: set[str] = set()
  for line, times in _executed(computations, entry, 1):
    match = _COLLECTIVE.search(line.split(", metadata=", 1)[0])
    channel = _CHANNEL.search(line)
    if match and (channel is None or channel[1] not in channels):
      channels |= {channel[1]} if channel else set()
      kind, started = match.groups()
      result = line[: match.start()].split(" = ", 1)[-1]
      if started and kind in _PAIRED:
        result = _second(result)
      total = found.setdefault(kind, {"count": 0, "bytes": 0})
      total["count"] += times
      total["bytes"] += times * _bytes(result)
  return dict(sorted(found.items(), key=lambda item: -item[1]["bytes"]))


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
  """Returns the lines of every computation by its name, and the name of the first one to run.

  Raises:
    ValueError: the text is not that of a module.
  """
  computations: dict[str, list[str]] = {}
  entry, lines = "", None
  for line in hlo.splitlines():
    header = _COMPUTATION.match(line)
    if header:
      lines = computations.setdefault(header[2], [])
      entry = header[2] if header[1] else entry
    elif line.startswith("}"):
      lines = None
    elif lines is not None:
      lines.append(line)
  if not entry:
    raise ValueError("no ENTRY computation: this is not the text of an HLO module")
  return computations, entry


def _executed(
  computations: dict[str, list[str]], name: str, times: int
) -> Iterator[tuple[str, int]]:
  """Yields every instruction that a computation runs, those it calls included, and how often."""
  for line in computations.get(name, []):
    yield line, times
    trips = _TRIPS.search(line)
    called = [inner for _, inner in _CALLED.findall(line)]
    for branches in _BRANCHES.findall(line):
      called += [branch.strip().lstrip("%") for branch in branches.split(",")]
    for inner in called:
      yield from _executed(computations, inner, times * (int(trips[1]) if trips else 1))


def _second(shape: str) -> str:
  """Returns the second part of a tuple's shape, itself an array or a tuple."""
  plain = re.sub(r"\{[^}]*\}|/\*.*?\*/", "", shape).strip()
  parts, depth = [""], 0
  for character in plain[1:-1]:
    depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
    if character == "," and depth == 0:
      parts.append("")
    else:
      parts[-1] += character
  return parts[1]


def _bytes(shape: str) -> int:
  """Counts the bytes of an array's or a tuple's shape, without padding."""
  total = 0
  for kind, dimensions in _ARRAY.findall(re.sub(r"\{[^}]*\}", "", shape)):
    bits: Any = _BITS.match(kind)
    size = int(bits[1]) if bits else 8  # pred
    for dimension in filter(None, dimensions.split(",")):
      size *= int(dimension.lstrip("<="))
    total += size // 8
  return total
