"""Speed of reading BSON and of the input pipeline."""

import argparse
import gc
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alphaecoli.genomics.genes import Gene
from alphaecoli.schema import Config

_LONGEST_BP = 10**9  # no gene of any bacterium lies beyond it

LOGGER = logging.getLogger(__name__)


def benchmark_bson(config: Config, flags: argparse.Namespace) -> dict[str, Any]:
  """Times bare decoding and the whole reading in turn; measures the memory of reading alone."""
  import bson

  from alphaecoli.genomics.quality import QualityReport
  from alphaecoli.regulondb.expression import read_expression
  from alphaecoli.regulondb.records import scan_genes
  from alphaecoli.tracks.process import input_files

  genes_file = input_files(config.data)["geneDatamart"]
  with tempfile.TemporaryDirectory() as folder:
    genes = scan_genes(genes_file, _LONGEST_BP, QualityReport()).genes
    path = flags.file or write_documents(
      Path(folder) / "geneExpression.bson", flags.documents, genes
    )
    counted = 0

    def bare() -> None:
      nonlocal counted
      counted = 0
      with open(path, "rb") as file:
        for _ in bson.decode_file_iter(file):
          counted += 1

    def read() -> None:
      read_expression(path, genes, QualityReport())

    seconds = in_turn({"bare": bare, "read": read}, flags.repeats)
    peak = _peak_memory_of_reading(path, genes_file)
  return {
    "documents": counted,
    "bare_documents_per_s": counted / statistics.median(seconds["bare"]),
    "read_documents_per_s": counted / statistics.median(seconds["read"]),
    "ratio_read_to_bare": statistics.median(
      b / r for b, r in zip(seconds["bare"], seconds["read"], strict=True)
    ),
    "peak_resident_bytes": peak,
  }


def write_documents(path: Path, count: int, genes: Sequence["Gene"]) -> Path:
  """Writes a geneExpression file of RegulonDB's shape, data set after data set."""
  import bson

  with open(path, "wb") as file:
    for i in range(count):
      dataset, gene = f"GENE_EXPRESSION_SRR{i // len(genes):07d}", genes[i % len(genes)]
      name = f"{dataset}_{gene.locus_tag}"
      document = {
        "_id": name,
        "count": None,
        "datasetIds": [dataset],
        "fpkm": 8.586969,
        "tpm": (i * 7919) % 500_000 / 1000,
        "temporalId": name,
        "gene": {
          "_id": gene.id,
          "name": gene.name,
          "synonyms": [gene.name, f"ECK{i % len(genes):04d}"],
          "bnumber": gene.locus_tag,
          "leftEndPosition": gene.start + 1,
          "rightEndPosition": gene.end,
        },
      }
      file.write(bson.encode(document))
  return path


def _peak_memory_of_reading(path: Path, genes_file: Path) -> int:
  """Returns the peak resident bytes of a fresh process that reads a file."""
  code = (
    "import resource, sys\n"
    "from alphaecoli.regulondb.expression import read_expression\n"
    "from alphaecoli.genomics.quality import QualityReport\n"
    "from alphaecoli.regulondb.records import scan_genes\n"
    "genes = scan_genes(sys.argv[2], int(sys.argv[3]), QualityReport()).genes\n"
    "read_expression(sys.argv[1], genes, QualityReport())\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
  )
  command = [sys.executable, "-c", code, str(path), str(genes_file), str(_LONGEST_BP)]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return int(done.stdout) * 1024  # Linux counts in KiB


def benchmark_pipeline(config: Config, flags: argparse.Namespace) -> dict[str, Any]:
  """Times training batches as the loop takes them, without a step."""
  from alphaecoli.data.pipeline import configured_batches
  from alphaecoli.tracks.organisms import open_organisms

  store = open_organisms(config, flags.workdir).stores[0]
  per_batch = config.train.batch_windows
  n_batches = max(flags.windows // per_batch, 1)

  def take() -> None:
    with configured_batches(store, config) as batches:
      for _ in range(n_batches):
        next(batches)

  seconds = statistics.median(in_turn({"take": take}, flags.repeats)["take"])
  windows = n_batches * per_batch
  return {
    "window_bp": config.data.window_bp,
    "windows": windows,
    "threads": config.data.read_threads,
    "windows_per_s": windows / seconds,
    "bases_per_s": windows * config.data.window_bp / seconds,
  }


def seconds_of(action: Callable[[], Any]) -> float:
  """Times a call."""
  started = time.perf_counter()
  action()
  return time.perf_counter() - started


def in_turn(actions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
  """Times actions one after the other, over and over, so that drift hits all alike."""
  for action in actions.values():
    action()
  seconds: dict[str, list[float]] = {name: [] for name in actions}
  for i in range(repeats):
    for name, action in actions.items():
      gc.collect()
      seconds[name].append(seconds_of(action))
    LOGGER.info("measured %d of %d", i + 1, repeats)
  return seconds
