"""Predicting many genomes: what is done is passed over, what can not be read is put on record."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from alphaecoli import __version__
from alphaecoli.checkpoints.read import hash_checkpoint
from alphaecoli.cli import BaseProgress
from alphaecoli.errors import DataError, UserError
from alphaecoli.files import hash_file, make_folder, tsv_writer, write_json
from alphaecoli.genomics.gene_calls import SETTINGS
from alphaecoli.genomics.quality import shown
from alphaecoli.inference.genome_files import GenomeFile
from alphaecoli.inference.genomes import Genome, NamedContig, Topology, read_genome
from alphaecoli.inference.output import (
  FAILED,
  FORMAT,
  MANIFEST,
  PARQUET,
  GenomeOutput,
  Settings,
  is_done,
  read_json,
)
from alphaecoli.inference.prediction import Prediction, Request
from alphaecoli.inference.predictor import Predictor
from alphaecoli.inference.tiling import stretch_length

LOGGER = logging.getLogger(__name__)

SUMMARY = "genomes.tsv"
PACKAGES = ("jax", "flax", "numpy", "pyBigWig")


@dataclasses.dataclass(frozen=True)
class Opened:
  """A genome that was read, or why it was not.

  Attributes:
    file: its files.
    genome: None where it is done already or can not be read.
    metadata: entries of its manifest about its inputs.
    reason: why it can not be read.
  """

  file: GenomeFile
  genome: Genome | None = None
  metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  reason: str = ""


class GenomeBatch:
  """Genomes, a model and what to write of them.

  Attributes:
    failures: reasons, by file, of genomes that could not be read.
    written: genomes that were predicted.
    passed_over: genomes that were complete already.
  """

  def __init__(
    self,
    predictor: Predictor,
    out: Path,
    settings: Settings,
    *,
    topology: Topology,
    aliases: Mapping[str, str],
    reverse_complement: bool,
    notes: Mapping[str, Any] | None = None,
  ):
    """Collects what all genomes share.

    Args:
      predictor: model to ask.
      out: directory of all outputs.
      settings: formats, units and thresholds of the outputs.
      topology: circular contigs by the command line.
      aliases: new names of contigs.
      reverse_complement: whether to average both strands.
      notes: further entries of every manifest.
    """
    self.predictor, self.out, self.settings = predictor, out, settings
    self.topology, self.aliases = topology, aliases
    self.reverse_complement, self.notes = reverse_complement, dict(notes or {})
    self.failures: dict[Path, str] = {}
    self._unused = {"--alias": set(aliases), "--circular": set(topology.named)}
    self._unobserved: list[str] = []
    self.written = self.passed_over = 0
    store = settings.store
    hashes = [
      hash_checkpoint(model.about["checkpoint"]) for model in predictor.members or (predictor,)
    ]
    self._common = {
      "format": FORMAT,
      "model_sha256": hashes if predictor.members else hashes[0],
      "organism": predictor.about.get("organism"),
      "window_bp": predictor.window_bp,
      "margin_bp": predictor.margin_bp,
      "stretch_bp": stretch_length(predictor.window_bp, predictor.margin_bp),
      "reverse_complement_average": reverse_complement,
      "expression_units": settings.units,
      "formats": sorted(settings.formats),
      "operon_threshold": settings.operon_threshold,
      "circular": {"every": topology.every, "named": dict(topology.named)},
      "aliases": dict(aliases),
      "store": store.fingerprint if store is not None else None,
    }
    if predictor.members:
      self._common |= predictor.choice
    # Only where genes are called: predictions of models that can not are done as they are.
    self._calls_genes = settings.calls_genes(predictor.trained_heads)
    if self._calls_genes:
      self._common["gene_calls"] = SETTINGS
    self._run = key_of(self._common)

  def predict(self, files: Sequence[GenomeFile]) -> None:
    """Predicts genomes that are not done.

    Raises:
      UserError: the only genome can not be read; or outputs can not be written, or the model gives
        values that are not finite.
    """
    expected = sum(file.expected_bp for file in files)
    with BaseProgress(expected, "predict") as progress, contextlib.ExitStack() as stack:
      for opened, genome, contig, prediction in self._results(files, progress):
        folder = self.out / opened.file.folder
        if contig is genome.contigs[0]:
          output = stack.enter_context(
            GenomeOutput(folder, genome, self.predictor, self.settings, opened.metadata)
          )
        output.write(contig, prediction)
        if contig is genome.contigs[-1]:
          stack.close()
          self.written += 1
          bases = f"{genome.length_bp:,}"
          LOGGER.info("%s: %s bp written to %s", opened.file.path.name, bases, folder)
    self._warn_of_unused(files)

  def _warn_of_unused(self, files: Sequence[GenomeFile]) -> None:
    """Warns of what the command line gives and no genome used, where all genomes were read."""
    if not files or not files[0].folder:
      return  # the only genome: said when it was read
    if self._unobserved:
      text = "the store has no gene of %d of %d genomes: no observed values: %s"
      LOGGER.warning(text, len(self._unobserved), self.written, shown(self._unobserved))
    for flag, names in self._unused.items():
      if names and not self.passed_over and not self.failures:
        LOGGER.warning("%s: %d names are of no contig: %s", flag, len(names), shown(sorted(names)))

  def _results(
    self, files: Sequence[GenomeFile], progress: BaseProgress
  ) -> Iterator[tuple[Opened, Genome, NamedContig, Prediction]]:
    """Yields the predicted contigs of all genomes, in order. Windows of all share batches."""
    waiting: deque[tuple[Opened, Genome, NamedContig]] = deque()

    def requests() -> Iterator[Request]:
      for opened in prefetch(self._open(file) for file in files):
        genome = opened.genome
        progress.expect((genome.length_bp if genome else 0) - opened.file.expected_bp)
        if genome is None:
          self._record(opened)
          continue
        for contig in genome.contigs:
          waiting.append((opened, genome, contig))
          yield Request(contig.codes, contig.circular, contig=contig.label)

    predictions = self.predictor.predict_many(
      requests(), reverse_complement=self.reverse_complement, progress=progress
    )
    for prediction in prefetch(predictions):
      yield *waiting.popleft(), prediction

  def _open(self, file: GenomeFile) -> Opened:
    """Reads a genome, unless it is done."""
    try:
      sequence = {"path": str(file.path), "sha256": hash_file(file.path)}
      gff = file.annotation
      annotation = {"path": str(gff), "sha256": hash_file(gff)} if gff else None
      hashes = [sequence["sha256"], annotation and annotation["sha256"]]
      key = key_of({**self._common, "inputs": hashes})
      if is_done(self.out / file.folder, key):
        return Opened(file)
      self._warn_of_others(file)
      genome = read_genome(
        file, self.topology, self.aliases, self.settings.store, alone=not file.folder
      )
      for names in self._unused.values():
        names -= {contig.name for contig in genome.contigs}
      if self.settings.store is not None and not genome.observed:
        self._unobserved.append(file.path.name)
      if PARQUET in self.settings.formats and not (genome.annotated or self._calls_genes):
        raise DataError(
          f"{file.path}: no genes for the format {PARQUET}; give --annotation or a GenBank file"
        )
    except UserError as error:
      if not file.folder:
        raise
      return Opened(file, reason=str(error))
    metadata = self._metadata(sequence, annotation, key)
    if genome.annotated or not self._calls_genes:
      metadata["gene_calls"] = None
    return Opened(file, genome, metadata)

  def _warn_of_others(self, file: GenomeFile) -> None:
    """Warns where a folder holds the predictions of another file, which will be replaced."""
    older = read_json(self.out / file.folder / MANIFEST).get("sequence", {}).get("path")
    if older and Path(older).absolute() != file.path.absolute():
      LOGGER.warning("%s: replaces the predictions of %s", self.out / file.folder, older)

  def _metadata(
    self, sequence: Mapping[str, str], annotation: Mapping[str, str] | None, key: str
  ) -> dict[str, Any]:
    """Describes the inputs of a genome for its manifest."""
    store = self.settings.store
    return {
      **self._common,
      **self.notes,
      "model": self.predictor.about,
      "track_table": self.predictor.table.to_json(),
      "sequence": sequence,
      "annotation": annotation,
      "store": {"path": str(store.path), "fingerprint": store.fingerprint} if store else None,
      "versions": {"alphaecoli": __version__}
      | {name: importlib.metadata.version(name) for name in PACKAGES},
      "run": self._run,
      "key": key,
    }

  def _record(self, opened: Opened) -> None:
    """Counts a genome that is done or broken; the reason goes to its folder."""
    if opened.reason:
      LOGGER.error("%s", opened.reason)
      self.failures[opened.file.path] = opened.reason
      folder = self.out / opened.file.folder
      make_folder(folder)
      failure = {"path": str(opened.file.path), "reason": opened.reason, "run": self._run}
      write_json(folder / FAILED, failure)
    else:
      self.passed_over += 1
      LOGGER.info("%s: done already", opened.file.path)

  def write_summary(self, files: Sequence[GenomeFile]) -> None:
    """Writes genomes.tsv: every genome of all processes, and how far this run is with it."""
    columns = ("genome", "folder", "status", "contigs", "bases", "reason")
    with tsv_writer(self.out / SUMMARY, columns) as add:
      for file in files:
        folder = self.out / file.folder
        failed, done = read_json(folder / FAILED), read_json(folder / MANIFEST)
        if failed.get("run") == self._run:
          add([file.path, file.folder, "failed", "", "", failed["reason"]])
        elif done.get("run") == self._run:
          bases = sum(contig["length_bp"] for contig in done["contigs"])
          add([file.path, file.folder, "done", len(done["contigs"]), bases, ""])
        else:
          add([file.path, file.folder, "waiting", "", "", ""])


def key_of(content: Mapping[str, Any]) -> str:
  """Hashes everything that decides what is written."""
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


T = TypeVar("T")
_END: Any = object()


def prefetch(items: Iterable[T]) -> Iterator[T]:
  """Yields the same items; a thread computes the next one while the caller uses this one.

  What raises there raises here, at its place in the order. A caller that stops early, or is
  interrupted, does not wait for the item under way.
  """
  iterator = iter(items)
  thread = ThreadPoolExecutor(1)
  try:
    pending = thread.submit(next, iterator, _END)
    while (item := pending.result()) is not _END:
      pending = thread.submit(next, iterator, _END)
      yield item
  finally:
    thread.shutdown(wait=False)
