"""What a program holds in memory and sends between devices, by XLA's plan and text (HLO).

For a large model nearly all the time of a compilation goes into machine code, which comes last.
What the program holds and sends, and whether it fits, are settled by then, and XLA writes them down
where it is told to (`xla_dump_to`, openxla.org/xla/hlo_dumps).
"""

import multiprocessing
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from alphaecoli.errors import UserError

N_LARGEST = 12
_POLL_S = 0.5
_COMPLETE = "*after_optimizations_after_buffer_assignment.txt"  # written after the others read here
_PROGRAM = "*.after_optimizations.txt"
_BUFFERS = "*after_optimizations-buffer-assignment.txt"
_LOG = "tpu_driver*WARNING.*"
_ALLOCATION = re.compile(r"^allocation \d+: size (\d+), (color \d+, )?(.*)")
_VALUE = re.compile(
  r"^ value: <\d+ (?P<name>[\w.-]+)\S* @\d+> \(size=(?P<size>\d+),offset=\d+\): "
  r"(?P<shape>\w+\[[\d,]*\])"
)
_OPERATION = re.compile(r'^\s*(?:ROOT )?%([\w.-]+) = .*op_name="([^"]*)"')
_REPLICATED = re.compile(
  r"Involuntary full rematerialization.* HLO operation %(\S+) = (\S+\[[\d,]*\])"
)

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


def planned(compile_it: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
  """Runs a compilation in a process of its own until its memory is planned, and ends it there.

  Args:
    compile_it: function of XLA's options, sent to the process; its result counts if it ends first.

  Returns:
    The result of `compile_it`, or what `read_plan` finds, with `replicated_to_reshard`: arrays that
    the partitioner saw no better way to lay out anew than to send them whole to every device.

  Raises:
    UserError: the compilation failed.
  """
  context = multiprocessing.get_context("spawn")
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_compile, args=(compile_it, folder, theirs))
    process.start()
    theirs.close()
    try:
      while not list(folder.glob(_COMPLETE)):
        time.sleep(_POLL_S)
        if ours.poll():
          return ours.recv()
        if not process.is_alive():
          raise UserError(f"the compilation ended with status {process.exitcode}; see above")
    finally:
      process.kill()
      process.join()
    return read_plan(folder) | {"replicated_to_reshard": _replicated(folder)}


def _compile(
  compile_it: Callable[[dict[str, Any]], dict[str, Any]], folder: Path, answer: Connection
) -> None:
  """Runs in the process; libtpu reads its environment when it is loaded."""
  threading.Thread(target=_end_with_parent, daemon=True).start()
  os.environ |= {"TPU_LOG_DIR": str(folder), "TPU_MIN_LOG_LEVEL": "1", "TPU_STDERR_LOG_LEVEL": "3"}
  answer.send(compile_it({"xla_dump_to": str(folder), "xla_dump_hlo_as_text": True}))


def _end_with_parent() -> None:
  """Waits for the command to end, however it does, and ends this process too."""
  parent = multiprocessing.parent_process()
  assert parent is not None
  parent.join()
  os._exit(1)


def read_plan(folder: Path) -> dict[str, Any]:
  """Reads what XLA wrote into a folder.

  Returns:
    `memory_bytes_per_device`: `arguments`, `temporaries`, `others` (outputs that take no argument's
    place, constants) and `total`, without the program itself; `largest` temporaries and what they
    are; `collectives_per_step_and_device`.
  """
  program = _text(folder, _PROGRAM)
  sizes = {"arguments": 0, "temporaries": 0, "others": 0}
  largest: dict[str, dict[str, Any]] = {}
  temporary = False
  for line in _text(folder, _BUFFERS).splitlines():
    allocation = _ALLOCATION.match(line)
    if allocation:
      size, elsewhere, kind = allocation.groups()  # a colour: another memory than HBM
      temporary = kind.startswith("preallocated-temp") and not elsewhere
      part = "arguments" if kind.startswith("parameter") else "others"
      sizes["temporaries" if temporary else part] += 0 if elsewhere else int(size)
    value = _VALUE.match(line) if temporary else None
    if value:
      largest.setdefault(value["name"], {"bytes": int(value["size"]), "shape": value["shape"]})
  operations = [match for line in program.splitlines() if (match := _OPERATION.match(line))]
  names = {match[1]: match[2] for match in operations}
  top = sorted(largest.items(), key=lambda item: -item[1]["bytes"])[:N_LARGEST]
  return {
    "memory_bytes_per_device": sizes | {"total": sum(sizes.values())},
    "largest": [{**item, "of": names.get(name, name)} for name, item in top],
    "collectives_per_step_and_device": collectives(program),
  }


def _replicated(folder: Path) -> list[str]:
  """Lists shapes and names of arrays that are replicated only to lie otherwise."""
  lines = {line for path in folder.glob(_LOG) for line in path.read_text().splitlines()}
  found = [match for line in sorted(lines) if (match := _REPLICATED.search(line))]
  return [f"{match[2]} {match[1]}" for match in found]


def _text(folder: Path, pattern: str) -> str:
  """Reads the one file of a name; the step's is the largest."""
  return max(folder.glob(pattern), key=lambda path: path.stat().st_size).read_text()


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
