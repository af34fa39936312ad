"""Predicting many genomes: what is done is passed over, what can not be read is put on record."""

import contextlib
import dataclasses
import importlib.metadata
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from alphaecoli import __version__
from alphaecoli.errors import DataError, UserError
from alphaecoli.files import hash_file, write_json, write_text
from alphaecoli.inference.genomes import Genome, NamedContig, Topology, read_genome
from alphaecoli.inference.output import (
  FAILED,
  FORMAT,
  MANIFEST,
  PARQUET,
  GenomeOutput,
  Settings,
  hash_checkpoint,
  is_done,
  key_of,
  read_json,
)
from alphaecoli.inference.prediction import Prediction, Request
from alphaecoli.inference.predictor import Predictor
from alphaecoli.inference.sources import Source
from alphaecoli.progress import BaseProgress

LOGGER = logging.getLogger("alphaecoli.predict")

SUMMARY = "genomes.tsv"
PACKAGES = ("jax", "flax", "numpy", "pyBigWig")


@dataclasses.dataclass(frozen=True)
class Opened:
  """A genome that was read, or why it was not.

  Attributes:
    source: its files.
    genome: None where it is done already or can not be read.
    about: what its manifest says of its inputs.
    reason: why it can not be read.
  """

  source: Source
  genome: Genome | None = None
  about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  reason: str = ""


class Campaign:
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
      predictor: the model.
      out: where outputs go.
      settings: what to write.
      topology: which contigs are rings, by the command line.
      aliases: new names of contigs.
      reverse_complement: average both strands.
      notes: what every manifest says besides.
    """
    self.predictor, self.out, self.settings = predictor, out, settings
    self.topology, self.aliases = topology, aliases
    self.reverse_complement, self.notes = reverse_complement, dict(notes or {})
    self.failures: dict[Path, str] = {}
    self.written = self.passed_over = 0
    store = settings.store
    self._common = {
      "format": FORMAT,
      "model_sha256": hash_checkpoint(predictor.about["checkpoint"]),
      "organism": predictor.about.get("organism"),
      "window_bp": predictor.window_bp,
      "margin_bp": predictor.margin_bp,
      "reverse_complement_average": reverse_complement,
      "expression_units": settings.units,
      "formats": sorted(settings.formats),
      "operon_threshold": settings.operon_threshold,
      "circular": {"every": topology.every, "named": dict(topology.named)},
      "aliases": dict(aliases),
      "store": store.fingerprint if store is not None else None,
    }
    self._run = key_of(self._common)

  def predict(self, sources: Sequence[Source]) -> None:
    """Predicts genomes that are not done.

    Raises:
      UserError: the only genome can not be read; or outputs can not be written, or the model gives
        values that are not finite.
    """
    expected = sum(source.expected_bp for source in sources)
    with BaseProgress(expected, "predict") as progress, contextlib.ExitStack() as stack:
      for opened, genome, contig, prediction in self._results(sources, progress):
        folder = self.out / opened.source.folder
        if contig is genome.contigs[0]:
          output = stack.enter_context(
            GenomeOutput(folder, genome, self.predictor, self.settings, opened.about)
          )
        output.write(contig, prediction)
        if contig is genome.contigs[-1]:
          stack.close()
          self.written += 1
          bases = f"{genome.length_bp:,}"
          LOGGER.info("%s: %s bp written to %s", opened.source.path, bases, folder)

  def _results(
    self, sources: Sequence[Source], progress: BaseProgress
  ) -> Iterator[tuple[Opened, Genome, NamedContig, Prediction]]:
    """The predicted contigs of all genomes, in order. Windows of all share batches."""
    waiting: deque[tuple[Opened, Genome, NamedContig]] = deque()

    def requests() -> Iterator[Request]:
      for opened in ahead(self._open(source) for source in sources):
        genome = opened.genome
        progress.expect((genome.length_bp if genome else 0) - opened.source.expected_bp)
        if genome is None:
          self._record(opened)
          continue
        for contig in genome.contigs:
          waiting.append((opened, genome, contig))
          yield Request(contig.codes, contig.circular, contig=contig.label)

    predictions = self.predictor.predict_many(
      requests(), reverse_complement=self.reverse_complement, progress=progress
    )
    for prediction in ahead(predictions):
      yield *waiting.popleft(), prediction

  def _open(self, source: Source) -> Opened:
    """Reads a genome, unless it is done."""
    try:
      sequence = {"path": str(source.path), "sha256": hash_file(source.path)}
      gff = source.annotation
      annotation = {"path": str(gff), "sha256": hash_file(gff)} if gff else None
      hashes = [sequence["sha256"], annotation and annotation["sha256"]]
      key = key_of({**self._common, "inputs": hashes})
      if is_done(self.out / source.folder, key):
        return Opened(source)
      self._warn_of_others(source)
      genome = read_genome(
        source, self.topology, self.aliases, self.settings.store, alone=not source.folder
      )
      if PARQUET in self.settings.formats and not genome.annotated:
        raise DataError(
          f"{source.path}: no genes for the format {PARQUET}; give --annotation or a GenBank file"
        )
    except UserError as error:
      if not source.folder:
        raise
      return Opened(source, reason=str(error))
    return Opened(source, genome, self._about(sequence, annotation, key))

  def _warn_of_others(self, source: Source) -> None:
    """Warns where a folder holds the predictions of another file, which will be replaced."""
    older = read_json(self.out / source.folder / MANIFEST).get("sequence", {}).get("path")
    if older and Path(older).absolute() != source.path.absolute():
      LOGGER.warning("%s: replaces the predictions of %s", self.out / source.folder, older)

  def _about(
    self, sequence: Mapping[str, str], annotation: Mapping[str, str] | None, key: str
  ) -> dict[str, Any]:
    """What the manifest of a genome says beside its contigs and files."""
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
      self.failures[opened.source.path] = opened.reason
      folder = self.out / opened.source.folder
      try:
        folder.mkdir(parents=True, exist_ok=True)
      except OSError as error:
        raise DataError(f"{folder}: can not be written to: {error.strerror}") from error
      facts = {"path": str(opened.source.path), "reason": opened.reason, "run": self._run}
      write_json(folder / FAILED, facts)
    else:
      self.passed_over += 1
      LOGGER.info("%s: done already", opened.source.path)

  def write_summary(self, sources: Sequence[Source]) -> None:
    """Writes genomes.tsv: every genome of all processes, and how far this run is with it."""
    rows = [("genome", "folder", "status", "contigs", "bases", "reason")]
    for source in sources:
      folder = self.out / source.folder
      failed, done = read_json(folder / FAILED), read_json(folder / MANIFEST)
      if failed.get("run") == self._run:
        rows.append((str(source.path), source.folder, "failed", "", "", failed["reason"]))
      elif done.get("run") == self._run:
        contigs = done["contigs"]
        bases = sum(contig["length_bp"] for contig in contigs)
        count = str(len(contigs)), str(bases)
        rows.append((str(source.path), source.folder, "done", *count, ""))
      else:
        rows.append((str(source.path), source.folder, "waiting", "", "", ""))
    write_text(self.out / SUMMARY, "".join("\t".join(row) + "\n" for row in rows))


T = TypeVar("T")
_END: Any = object()


def ahead(items: Iterable[T]) -> Iterator[T]:
  """The same items; the next one is computed in a thread while the caller uses this one.

  What raises there raises here, at its place in the order. A caller that stops early, or is
  interrupted, does not wait for the item under way.
  """
  source = iter(items)
  thread = ThreadPoolExecutor(1)
  try:
    coming = thread.submit(next, source, _END)
    while (item := coming.result()) is not _END:
      coming = thread.submit(next, source, _END)
      yield item
  finally:
    thread.shutdown(wait=False)
