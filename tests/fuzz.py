"""Feeds damaged inputs to every reader: `python -m tests.fuzz --seconds 60 --seed 0`.

Small valid inputs are mutated at random and read. Each must be read, or refused in one line by an
error of ours. A traceback, an input that takes too long, too much memory, a message that prints
too much of the input, and an output that is left after a refusal are faults; exit status 1.

A new reader is an entry of `READERS`; its valid inputs are written by `write_samples`.
"""

import argparse
import dataclasses
import gzip
import itertools
import json
import logging
import multiprocessing
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import bson

from alphaecoli import prepare
from alphaecoli.checkpoints.arrays import ARRAYS, check_files
from alphaecoli.checkpoints.read import (
  find_checkpoint,
  find_ensemble,
  read_description,
  read_ensemble,
)
from alphaecoli.checkpoints.write import write_ensemble
from alphaecoli.config import from_arguments
from alphaecoli.errors import DataError, UserError
from alphaecoli.files import CHECKSUM
from alphaecoli.genomics.genbank import read_sequences
from alphaecoli.genomics.quality import QualityReport
from alphaecoli.genomics.read import read_annotation, read_elements
from alphaecoli.genomics.sequence import read_fasta
from alphaecoli.genomics.vcf import read_vcf
from alphaecoli.regulondb.dump import read_dump
from alphaecoli.tracks.store import open_store
from tests import stores, toy
from tests.organism import export
from tests.training.small import save_checkpoint, tiny_config

READ, REFUSED, TRACEBACK, HANG, MEMORY, CRASH = (
  *("read", "refused", "TRACEBACK", "HANG", "MEMORY", "CRASH"),
)
OUTCOMES = (READ, REFUSED, TRACEBACK, HANG, MEMORY, CRASH)
MOST_SECONDS, MOST_BYTES = 20.0, 2 << 30  # of one input
MOST_LETTERS = 800  # of a message: 300 of the input, paths, and what to do
CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.py"
PREPARED = (
  "--values", "tpm", "--config.data.window_bp=2048", "--config.data.min_genes_per_unit=3",
  "--config.data.n_blocks=3", "--config.data.n_folds=3",
)  # fmt: skip


class Case(NamedTuple):
  """One damaged input and what came of it."""

  index: int
  reader: str
  outcome: str
  details: str = ""


@dataclasses.dataclass(frozen=True)
class Reader:
  """A reader and its valid inputs.

  Attributes:
    files: patterns of the inputs in the folder of samples; one is damaged at a time.
    read: function that reads the inputs in a folder of samples.
  """

  files: tuple[str, ...]
  read: Callable[[Path, Path], Any]


def read_bson(folder: Path, damaged: Path) -> None:
  """Reads a dump."""
  contig, report = read_fasta(folder / "dump" / "toy.fna")[0], QualityReport()
  data = stores.config_of(min_genes_per_unit=3).data
  read_dump(folder / damaged.relative_to(folder).parts[0], contig, data, report)
  report.table()


def read_tables(folder: Path, damaged: Path) -> None:
  """Makes a track store of an organism's files, with a damaged one among them."""
  out = folder / "prepared"
  files = {
    "--genome": folder / "genome.fna",
    "--annotation": folder / "genes.gff3",
    "--expression": folder / "expression.tsv",
    "--samples": folder / "samples.tsv",
    "--operons": folder / "operons.tsv",
  }
  if damaged.name == "operons.gff3":
    files["--operons"] = damaged
  flags = [str(part) for pair in files.items() for part in pair]
  try:
    prepare.main([*flags, *PREPARED, "--out", str(out)])
    open_store(out).verify()
  except UserError:
    assert not out.exists(), "a store is left of what was refused"
    raise
  finally:
    shutil.rmtree(out, ignore_errors=True)
    assert not list(folder.glob("*.partial")), "half a store is left"


def read_configuration(folder: Path, damaged: Path) -> None:
  """Reads a configuration file, or the flags of a command line."""
  if damaged.suffix == ".py":
    from_arguments(["--config", str(damaged)])
  else:
    text = damaged.read_bytes().decode("utf-8", "replace")
    from_arguments([line for line in text.replace("\0", "").splitlines() if line])


def read_checkpoint(folder: Path, damaged: Path) -> None:
  """Reads all of a checkpoint that comes before orbax, which reads nothing that is damaged."""
  path = find_checkpoint(folder / "run")
  meta, *_ = read_description(path)
  if CHECKSUM in meta and check_files(path, meta, ARRAYS):
    return
  raise DataError("without checksums orbax would read it")


def read_store(folder: Path, damaged: Path) -> None:
  """Opens a track store and cuts windows from it."""
  store = open_store(folder / "store")
  store.annotation()
  assert store.quality
  length = min(2048, store.length_bp // 128 * 128)
  for start in (0, store.length_bp - length):
    store.window(start, length, reverse=start > 0)


READERS = {
  "BSON": Reader(("dump/*/*",), read_bson),
  "JSON": Reader(("json/*/*",), read_bson),
  "FASTA": Reader(("genome.fna", "packed.fna.gz"), lambda _, path: read_fasta(path)),
  "GenBank": Reader(("genes.gbk",), lambda _, path: read_sequences(path)),
  "GFF3": Reader(("genes.gff3", "packed.gff3.gz"), lambda _, path: read_annotation(path)),
  "VCF": Reader(("variants.vcf",), lambda _, path: list(read_vcf(path))),
  "BED": Reader(("elements.bed",), lambda _, path: read_elements(path)),
  "expression table": Reader(("expression.tsv",), read_tables),
  "operon table": Reader(("operons.tsv", "operons.gff3"), read_tables),
  "sample table": Reader(("samples.tsv",), read_tables),
  "configuration": Reader(("configuration.py", "flags.txt"), read_configuration),
  "checkpoint": Reader(("run/checkpoints/7/**/*",), read_checkpoint),
  "old checkpoint": Reader(("old/7/meta/metadata",), lambda f, _: read_description(f / "old/7")),
  "store": Reader(("store/*",), read_store),
  "ensemble": Reader(("ensemble.json",), lambda _, path: read_ensemble(find_ensemble(path))),
}


def write_samples(folder: Path) -> None:
  """Writes valid inputs of all readers into an empty folder."""
  dump = toy.write(folder / "dump")
  for file in dump.files.values():
    path = folder / "json" / file.relative_to(folder / "dump").with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bson.decode_all(file.read_bytes()), indent=1))
  config = stores.toy_config(dump, n_blocks=3, n_folds=3)
  records = export.read_records(config.data)
  export.write_fasta(folder / "genome.fna", records)
  export.write_gff3(folder / "genes.gff3", records)
  export.write_gff3(folder / "operons.gff3", records, operons=True)
  export.write_genbank(folder / "genes.gbk", records)
  export.write_expression(folder / "expression.tsv", records)
  export.write_operons(folder / "operons.tsv", records)
  export.write_samples(folder / "samples.tsv", records)
  for name in ("genome.fna", "genes.gff3"):
    packed = folder / f"packed{Path(name).suffix}.gz"
    packed.write_bytes(gzip.compress((folder / name).read_bytes(), mtime=0))
  (folder / "variants.vcf").write_text(
    "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    "toy\t12\trs1\tA\tC,G\t.\tPASS\t.\ntoy\t90\t.\tACG\tA\t10\t.\tX=1\ntoy\t7\t.\tA\t<DEL>\t.\t.\t.\n"
  )
  (folder / "elements.bed").write_text(
    "track name=x\ntoy\t10\t60\tlacP\t0\t+\ntoy\t100\t160\t.\t.\t-\ntoy\t200\t201\n"
  )
  (folder / "configuration.py").write_bytes(CONFIG.read_bytes())
  (folder / "flags.txt").write_text(
    "--config.train.steps=7\n--config.data.exclude_gene_types=phantom,pseudogene\n"
    '--config.data.expression_groups={"x": ("s1", "s2")}\n--config.optimizer.learning_rate=1e-3\n'
  )
  save_checkpoint(folder / "run", tiny_config())
  _write_old_checkpoint(folder / "run" / "checkpoints" / "7", folder / "old" / "7")
  stores.hand_worked_store(folder / "made").path.rename(folder / "store")
  shutil.copytree(folder / "run", folder / "run2")
  write_ensemble(folder, [folder / "run", folder / "run2"])


def _write_old_checkpoint(path: Path, old: Path) -> None:
  """Copies the JSON of a checkpoint as one of an earlier version, without checksums."""
  shutil.copytree(path / "meta", old / "meta")
  file = old / "meta" / "metadata"
  file.write_text(re.sub(r', "checksum": "\w+"', "", file.read_text()))


NUMBERS = (
  *(b"0", b"-1", b"1", b"2147483648", b"99999999999999999999", b"1e309", b"nan", b"-inf", b""),
  *(b"1.5", b"1,5", b"1_000", "\u0663".encode(), "\u00b2".encode(), b"9" * 5000, b"0x10", b"1e9"),
)
PIECES = (
  *(b"\t", b"\r", b"\n", b"\0", b",", b";", b"=", b'"', b"'", b"{", b"[", b"}", b"null", b"true"),
  *(b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"PK\x03\x04", b">", b"#", b"//", b"..", b"%00"),
  *("\u00e9".encode(), "\u2028".encode(), b"A" * 100_000, b"[" * 3_000, b"join(", b"complement("),
)


def _flip(data: bytes, rng: random.Random) -> bytes:
  i = rng.randrange(len(data) or 1)
  return data[:i] + bytes([data[i] ^ 1 << rng.randrange(8)]) + data[i + 1 :] if data else data


def _number(data: bytes, rng: random.Random) -> bytes:
  found = list(re.finditer(rb"\d+(\.\d+)?", data))
  if not found:
    return data
  place = rng.choice(found)
  return data[: place.start()] + rng.choice(NUMBERS) + data[place.end() :]


def _word(data: bytes, rng: random.Random) -> bytes:
  found = list(re.finditer(rb"\w+", data))
  if not found:
    return data
  place, other = rng.choice(found), rng.choice(found)
  return data[: place.start()] + other.group() + data[place.end() :]


def _piece(data: bytes, rng: random.Random) -> bytes:
  i = rng.randint(0, len(data))
  return data[:i] + rng.choice(PIECES) + data[i:]


def _slice(data: bytes, rng: random.Random) -> tuple[int, int]:
  i = rng.randint(0, len(data))
  return i, min(len(data), i + rng.choice((1, 4, 30, 500, len(data))))


def _remove(data: bytes, rng: random.Random) -> bytes:
  i, j = _slice(data, rng)
  return data[:i] + data[j:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
  i, j = _slice(data, rng)
  return data[:j] + data[i:j] * rng.choice((1, 1, 5)) + data[j:]


def _noise(data: bytes, rng: random.Random) -> bytes:
  i, j = _slice(data, rng)
  return data[:i] + rng.randbytes(min(j - i, 1000)) + data[j:]


def _zeros(data: bytes, rng: random.Random) -> bytes:
  i, j = _slice(data, rng)
  return data[:i] + bytes(j - i) + data[j:]


def _lines(data: bytes, rng: random.Random) -> bytes:
  lines = data.splitlines(keepends=True)
  if len(lines) < 2:
    return data
  i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
  choice = rng.randrange(3)
  if choice == 0:
    lines[i], lines[j] = lines[j], lines[i]
  elif choice == 1:
    del lines[i]
  else:
    lines.insert(i, lines[j])
  return b"".join(lines)


def _separator(data: bytes, rng: random.Random) -> bytes:
  old, new = (
    rng.choice((b"\t", b"\n", b",", b" ", b";", b":")),
    rng.choice((b"\t", b",", b" ", b"")),
  )
  return data.replace(old, new, rng.choice((1, 3, -1)))


def _encoding(data: bytes, rng: random.Random) -> bytes:
  return data.decode("latin-1").encode(rng.choice(("utf-16", "utf-8", "utf-8-sig")))


VALUES = (
  *(None, True, 0, -1, 1.5, 1 << 40, 1e308, float("nan"), float("inf"), "", "x", "-5", "A" * 5000),
  *([], {}, [[]], {"": None}, [1, "2", None], {"_id": 1}, "1e400", "NaN", "\u0000", "<i>lacZ</i>"),
)


def _leaf(value: Any, rng: random.Random) -> Any:
  """Replaces, removes or doubles something at a random depth of a document."""
  if isinstance(value, dict | list) and value and rng.random() < 0.85:
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = rng.choice(keys)
    way = rng.random()
    if way < 0.1:
      del value[key]
    elif way < 0.2 and isinstance(value, list):
      value.append(value[key])
    else:
      value[key] = _leaf(value[key], rng)
    return value
  return rng.choice(VALUES)


def _structure(data: bytes, rng: random.Random) -> bytes:
  """Changes the values of JSON or BSON, which stays whole as such; other inputs by a word."""
  try:
    return json.dumps(_leaf(json.loads(data), rng)).encode()
  except ValueError:
    pass
  try:
    documents = bson.decode_all(data)
    return b"".join(bson.encode(d if isinstance(d, dict) else {}) for d in _leaf(documents, rng))
  except (bson.errors.InvalidBSON, bson.errors.InvalidDocument, OverflowError, TypeError):
    return _word(data, rng)


MUTATIONS = (
  *(_structure, _structure, _structure, _structure, _structure, _structure, _structure),
  *(_flip, _flip, _number, _number, _number, _word, _word, _piece, _piece, _remove, _remove),
  *(_repeat, _noise, _zeros, _lines, _lines, _separator, _encoding),
)


def mutate(data: bytes, rng: random.Random) -> tuple[bytes, str]:
  """Damages an input in one to three ways; returns them too, in words."""
  ways = rng.choices(MUTATIONS, k=rng.choice((1, 1, 2, 3)))
  for way in ways:
    data = way(data, rng)
  return data, ", ".join(way.__name__.strip("_") for way in ways)


def cases(folder: Path, seed: int, names: Sequence[str], first: int = 0) -> Iterator[Case]:
  """Yields damaged inputs and what came of them, without end.

  Args:
    folder: what `write_samples` wrote; each file is whole again when the next is damaged.
    seed: number that makes other inputs.
    names: readers, in turn.
    first: number of the first input.
  """
  files = {
    name: sorted(p for f in READERS[name].files for p in folder.glob(f) if p.is_file())
    for name in names
  }
  for index in itertools.count(first):
    name = names[index % len(names)]
    rng = random.Random(f"{seed} {index}")
    path = rng.choice(files[name])
    whole = path.read_bytes()
    damaged, words = mutate(whole, rng)
    path.write_bytes(damaged)
    try:
      outcome, details = _outcome(READERS[name], folder, path)
    finally:
      path.write_bytes(whole)
    yield Case(index, name, outcome, details and f"{path.relative_to(folder)} ({words}): {details}")


def _outcome(reader: Reader, folder: Path, path: Path) -> tuple[str, str]:
  """Reads a damaged input."""
  try:
    reader.read(folder, path)
  except UserError as error:
    text = str(error)
    if "\n" in text or len(text) > MOST_LETTERS:
      return TRACEBACK, f"a message of {len(text):,} letters: {text[:200]!r}"
    return REFUSED, ""
  except MemoryError:
    return MEMORY, traceback.format_exc(limit=-3)
  except Exception:  # what we look for
    return TRACEBACK, traceback.format_exc(limit=-4)
  return READ, ""


def _work(folder: Path, seed: int, names: Sequence[str], first: int, pipe: Any) -> None:
  """Reads damaged inputs in a process of its own, with little memory, and sends what came."""
  logging.disable(logging.CRITICAL)
  warnings.simplefilter("ignore")
  used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
  resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, resource.RLIM_INFINITY))
  for case in cases(folder, seed, names, first):
    pipe.send(case)


def watched(
  samples: Path, seed: int, names: Sequence[str], work: Callable[..., None] = _work
) -> Iterator[Case]:
  """Yields cases as `cases` does, read by another process, which is ended where it hangs."""
  context = multiprocessing.get_context("spawn")  # threads of jax do not survive a fork
  first = 0
  while True:
    folder = samples.with_name(f"from-{first}")
    shutil.copytree(samples, folder)
    mine, other = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(folder, seed, names, first, other), daemon=True)
    process.start()
    other.close()
    fault = ""
    patience = 10 * MOST_SECONDS  # to start
    try:
      while not fault:
        if not mine.poll(patience):
          fault = HANG
          break
        case = mine.recv()
        first, patience = case.index + 1, MOST_SECONDS
        yield case
    except EOFError:
      fault = CRASH
    finally:
      process.kill()
      process.join()
      shutil.rmtree(folder)
    yield Case(first, names[first % len(names)], fault, f"input {first} of seed {seed}")
    first += 1


def table(counts: Counter[tuple[str, str]], names: Sequence[str]) -> str:
  """Formats counts by reader and outcome."""
  rows = [("reader", "inputs", *OUTCOMES)]
  for name in (*names, "all"):
    found = [sum(counts[n, o] for n in names if name in (n, "all")) for o in OUTCOMES]
    rows.append((name, f"{sum(found):,}", *(f"{n:,}" for n in found)))
  return "\n".join(f"{r[0]:18}" + "".join(f"{cell:>11}" for cell in r[1:]) for r in rows)


def main(arguments: Sequence[str]) -> int:
  parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
  parser.add_argument("--seconds", type=float, default=60.0)
  parser.add_argument("--inputs", type=int, help="stop after so many, whatever the time")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS))
  options = parser.parse_args(arguments)
  counts: Counter[tuple[str, str]] = Counter()
  faults: dict[str, int] = {}
  with tempfile.TemporaryDirectory() as scratch:
    samples = Path(scratch) / "samples"
    logging.disable(logging.CRITICAL)
    samples.mkdir()
    write_samples(samples)
    end = time.monotonic() + options.seconds
    for n, case in enumerate(watched(samples, options.seed, options.readers), start=1):
      counts[case.reader, case.outcome] += 1
      if case.outcome not in (READ, REFUSED):
        last = re.sub(r"\d+|'.*'", "#", case.details.strip().splitlines()[-1])
        cause = f"{case.reader} {last}"
        faults[cause] = faults.get(cause, 0) + 1
        if faults[cause] == 1:
          print(f"\n{case.outcome} input {case.index}, {case.reader}: {case.details}", flush=True)
      if n == options.inputs or (options.inputs is None and time.monotonic() > end):
        break
  print(f"\n{table(counts, options.readers)}")
  return 1 if faults else 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
