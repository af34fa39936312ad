"""What a work directory says about its run: configuration, history, metrics of a split."""

import csv
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alphaecoli.checkpoints.read import CHECKPOINTS_DIR, find_checkpoint, read_meta, read_score
from alphaecoli.errors import DataError, reason_of
from alphaecoli.files import read_json
from alphaecoli.tracks.organisms import find_store
from alphaecoli.tracks.store import TrackStore

VALIDATION_FILE = "validation.json"  # the last validation report of the training itself


@dataclasses.dataclass(frozen=True)
class Saved:
  """A checkpoint.

  Attributes:
    path: its directory.
    step: steps done.
    score: its loss on validation, None where that was not measured.
  """

  path: Path
  step: int
  score: float | None


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """The metrics of a split.

  Attributes:
    file: the JSON they come from.
    value: what it holds.
    genes: lines of the gene table beside it; empty where there is none.
  """

  file: Path
  value: Mapping[str, Any]
  genes: tuple[Mapping[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished, stopped or running run.

  Attributes:
    workdir: its directory.
    config: what config.json holds.
    starts: the entries of run.json: one each time the run began or went on.
    history: the records of metrics.jsonl, in order.
    genome: its track store, with those of all contigs.
    store: the track store of the contig on the page.
    saved: every checkpoint that is complete, by step.
    best: the checkpoint that predicts; None before the first.
    split: the split of the page.
    evaluation: its metrics; None where it was not measured.
    organism: the one of several on the page; "" where there is one.
  """

  workdir: Path
  config: Mapping[str, Any]
  starts: tuple[Mapping[str, Any], ...]
  history: tuple[Mapping[str, Any], ...]
  genome: TrackStore
  store: TrackStore
  saved: tuple[Saved, ...]
  best: Saved | None
  split: str
  evaluation: Evaluation | None
  organism: str = ""

  @property
  def step(self) -> int:
    """Counts the steps done, as far as the run has written."""
    logged = [int(record["step"]) for record in self.history]
    return max([*logged, *(saved.step for saved in self.saved)], default=0)

  @property
  def steps(self) -> int:
    """Counts the steps to do."""
    return int(self.config["train"]["steps"])


def read_run(workdir: Path, split: str, organism: str | None = None) -> Run:
  """Reads a work directory.

  Args:
    workdir: work directory of the run.
    split: name of the split whose metrics are wanted.
    organism: name or row of one of several.

  Raises:
    DataError: it holds no run, or a file of it is broken.
    ConfigError: no such organism, or several to choose from.
  """
  if not (workdir / "run.json").is_file():
    raise DataError(
      f"{workdir}: no run (there is no run.json); name the --workdir of alphaecoli.train"
    )
  config, record = read_json(workdir / "config.json"), read_json(workdir / "run.json")
  starts = record.get("starts")
  if not starts:
    raise DataError(
      f"{workdir / 'run.json'} has no starts of a run, perhaps of an earlier version; move it away "
      "and run the training command again, which ends at once where the run is finished"
    )
  store = find_store({**starts[-1], "config": config}, workdir, organism)
  several = len(config["data"].get("stores", ())) > 1
  saved = _checkpoints(workdir)
  best = None
  if saved:
    path = Path(find_checkpoint(workdir))
    best = next(s for s in saved if s.path.name == path.name)
  return Run(
    workdir=workdir,
    config=config,
    starts=tuple(starts),
    history=tuple(_history(workdir / "metrics.jsonl")),
    genome=store,
    store=store,
    saved=saved,
    best=best,
    split=split,
    evaluation=_evaluation(workdir, split, store.organism if several else ""),
    organism=store.organism if several else "",
  )


def _checkpoints(workdir: Path) -> tuple[Saved, ...]:
  """Lists the complete checkpoints, by step."""
  folders = [p for p in (workdir / CHECKPOINTS_DIR).glob("*") if p.name.isdigit()]
  return tuple(
    Saved(path, int(read_meta(path)["step"]), read_score(path))
    for path in sorted(folders, key=lambda p: int(p.name))
  )


def _history(path: Path) -> list[dict[str, Any]]:
  """Reads the lines of metrics.jsonl; one that is being written is left out."""
  if not path.is_file():
    return []
  lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
  try:
    return [json.loads(line) for line in lines if line.endswith("\n")]
  except ValueError as error:
    raise DataError(f"{path}: a line is not JSON: {reason_of(error)}") from error


def _evaluation(workdir: Path, split: str, organism: str) -> Evaluation | None:
  """Reads what alphaecoli.evaluate has written; for validation also what the training has."""
  files = [workdir / (f"evaluation_{split}" + (organism and f"_{organism}") + ".json")]
  if split == "validation" and not organism:
    files.append(workdir / VALIDATION_FILE)
  file = next((f for f in files if f.is_file()), None)
  if file is None:
    return None
  genes: tuple[Mapping[str, str], ...] = ()
  table = file.with_name(f"{file.stem}_genes.tsv")
  if table.is_file():
    with table.open(newline="", encoding="utf-8") as lines:
      genes = tuple(csv.DictReader(lines, dialect="excel-tab"))
  return Evaluation(file, read_json(file), genes)
