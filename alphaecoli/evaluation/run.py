"""Measuring a checkpoint on a split of its track stores."""

import argparse
import csv
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from alphaecoli.checkpoints.read import (
  CHECKPOINTS_DIR,
  GENE_MODELS,
  LoadedCheckpoint,
  find_checkpoint,
  gene_models_of,
  load_inference,
  read_description,
)
from alphaecoli.checkpoints.write import add_metadata, one_first
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.evaluation.evaluator import evaluate_on, make_predict
from alphaecoli.evaluation.gene_fits import GeneFit
from alphaecoli.evaluation.gene_level import with_gene_models
from alphaecoli.evaluation.results import Report
from alphaecoli.evaluation.rivals import measure
from alphaecoli.files import AnyPath, atomic_write, write_json
from alphaecoli.parallel.hardware import use_compilation_cache
from alphaecoli.parallel.sharding import fold_mesh, make_mesh
from alphaecoli.tracks.organisms import find_store
from alphaecoli.tracks.splits import TRAIN, VALIDATION
from alphaecoli.tracks.store import TrackStore
from alphaecoli.tracks.track_table import TrackTable

LOGGER = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
  """Measures a checkpoint as the command line says; every process of a run calls this."""
  if options.fit_gene_models:
    fit_gene_models(options.workdir, options.checkpoint)
  evaluate_run(
    options.workdir,
    options.split,
    options.checkpoint,
    options.batch_windows,
    options.rivals,
    options.reverse_complement_average,
  )
  return 0


def evaluate_run(
  workdir: AnyPath,
  split: str,
  checkpoint: str = "best",
  batch_windows: int | None = None,
  rivals: bool = False,
  both_strands: bool | None = None,
) -> list[tuple[LoadedCheckpoint, TrackStore, Report]]:
  """Measures a checkpoint of a run on a split of each of its stores; prints and writes the metrics.

  Args:
    workdir: work directory of the run.
    split: train, validation or test.
    checkpoint: best, last or a step.
    batch_windows: windows at once, as for `evaluate_checkpoint`.
    rivals: whether simple rules are measured too.
    both_strands: whether the predictions of both strands are averaged; by default as the run's
      configuration says.

  Raises:
    UserError: see the message.
  """
  path, which = choose_checkpoint(workdir, checkpoint)
  mesh = mesh_of(path, which)
  loaded = load_inference(path, which, mesh)
  if both_strands is not None:
    evaluation = dataclasses.replace(loaded.config.evaluation, both_strands=both_strands)
    config = dataclasses.replace(loaded.config, evaluation=evaluation)
    loaded = dataclasses.replace(loaded, config=config)
  LOGGER.info("checkpoint %s on mesh %s", loaded.path, dict(mesh.shape))
  seen = bases_seen_before(loaded.meta, split)
  if seen != 0:
    LOGGER.warning(
      "not held out: the model that training started from had seen %s of this split",
      "an unknown number of bases" if seen is None else f"{seen:,} bases",
    )
  stores = one_first("track store", lambda: find_stores(loaded, workdir))
  if loaded.config.log.compilation_cache:
    use_compilation_cache(workdir / "jax_cache")
  measured = []
  for row, store in enumerate(stores):
    report = evaluate_checkpoint(loaded, store, split, mesh, batch_windows, row)
    if jax.process_index() == 0:
      if rivals:
        found = measure(store, split, loaded.config.data.window_bp)
        report = dataclasses.replace(report, rivals=found)
      name = store.organism if len(stores) > 1 else ""
      print(f"{name and name + ', '}step {loaded.step}, {report.table()}")
      write_files(workdir, report, loaded, store, name)
    measured.append((loaded, store, report))
  return measured


def choose_checkpoint(workdir: AnyPath, name: str) -> tuple[AnyPath, str]:
  """Chooses what `load_inference` is to read: a path, and which of several.

  Args:
    workdir: work directory of the run.
    name: best, last or a step.

  Raises:
    ConfigError: another name.
    DataError: no checkpoint of that step; says which there are.
  """
  if name in ("best", "last"):
    return workdir, {"best": "best", "last": "latest"}[name]
  if not name.isdecimal():
    raise ConfigError(f"--checkpoint={name}; expected best, last or a step")
  folder = workdir / CHECKPOINTS_DIR
  path = folder / str(int(name))
  if not path.is_dir():
    steps = sorted(int(p.name) for p in folder.glob("*") if p.name.isdecimal())
    found = f"there are {', '.join(map(str, steps))}" if steps else "there are none"
    raise DataError(f"no checkpoint of step {name} in {folder}; {found}")
  return path, "best"


def bases_seen_before(meta: Mapping[str, Any], split: str) -> int | None:
  """Counts the bases of a split that a run's start was trained on; None where it did not say."""
  if "init" not in meta or split == TRAIN:
    return 0
  seen = meta["init"]["held_out_bp_seen"]
  return None if seen is None else seen.get(split, 0)


def mesh_of(path: AnyPath, which: str) -> jax.sharding.Mesh:
  """Lays the devices out as in the run that wrote a checkpoint as far as their number allows."""
  config = read_description(find_checkpoint(path, which))[1].mesh
  return make_mesh(fold_mesh(config, jax.device_count()))


def find_stores(loaded: LoadedCheckpoint, workdir: AnyPath) -> tuple[TrackStore, ...]:
  """Opens the track stores that a checkpoint was trained on, by row of the organism embedding.

  Raises:
    DataError: one is broken, or is gone and its inputs are no longer those of the run.
  """
  return tuple(
    find_store(loaded.meta, workdir, row, loaded.config) for row in range(len(loaded.organisms))
  )


def evaluate_checkpoint(
  loaded: LoadedCheckpoint,
  store: TrackStore,
  split: str,
  mesh: jax.sharding.Mesh,
  batch_windows: int | None = None,
  organism: int = 0,
) -> Report:
  """Measures a loaded checkpoint, with windows spread over a mesh.

  Args:
    loaded: checkpoint with its parameters on the mesh.
    store: targets.
    split: train, validation or test.
    mesh: devices.
    batch_windows: windows at once, rounded up to fill the mesh; by default the configuration's.
    organism: row of the store in the organism embedding.
  """
  config = loaded.config
  functional = loaded.functional.without_factors()
  params, stats = functional.split(loaded.model)
  with jax.set_mesh(mesh):
    both_strands = loaded.table if config.evaluation.both_strands else None
    predict = make_predict(functional, mesh, both_strands)
    report = evaluate_on(
      mesh,
      lambda batch: predict(params, stats, batch),
      store,
      split,
      config,
      loaded.table,
      batch_windows=batch_windows,
      organism=organism,
    )
  models = gene_models_of(loaded.meta, loaded.organisms[organism].name)
  return with_gene_models(report, store, models)


def fit_gene_models(workdir: AnyPath, checkpoint: str = "best") -> None:
  """Fits the gene models of a checkpoint of a run anew, and keeps them in it.

  For checkpoints of versions that had none, or fewer; training does it by itself. Every process of
  a run calls this.

  Args:
    workdir: work directory of the run.
    checkpoint: best, last or a step.

  Raises:
    UserError: see the message.
  """
  path, which = choose_checkpoint(workdir, checkpoint)
  mesh = mesh_of(path, which)
  loaded = load_inference(path, which, mesh)
  stores = one_first("track store", lambda: find_stores(loaded, workdir))
  fit = GeneFit(loaded.config.data.window_bp)
  found = {}
  for row, store in enumerate(stores):
    report = evaluate_checkpoint(loaded, store, VALIDATION, mesh, organism=row)
    found[store.organism] = fit.fit(report, store).to_json()

  def add() -> None:
    if jax.process_index() == 0:
      add_metadata(loaded.path, {GENE_MODELS: found})
      LOGGER.info("%s: fitted its gene models on the validation split", loaded.path)

  one_first("gene models", add)


def write_files(
  workdir: AnyPath, report: Report, loaded: LoadedCheckpoint, store: TrackStore, organism: str = ""
) -> None:
  """Writes evaluation_<split>.json and evaluation_<split>_genes.tsv.

  Where there are several organisms, they are evaluation_<split>_<organism>.json and so on.

  Raises:
    DataError: they can not be written.
  """
  origin = {
    "checkpoint": str(loaded.path),
    "step": loaded.step,
    "fold": store.manifest["config"]["fold"],
    "window_bp": loaded.config.data.window_bp,
    "both_strands": loaded.config.evaluation.both_strands,
    "store": str(store.path),
    "store_fingerprint": store.fingerprint,
    "bases_seen_before": bases_seen_before(loaded.meta, report.split),
  }
  stem = f"evaluation_{report.split}" + (organism and f"_{organism}")
  path, genes = workdir / f"{stem}.json", workdir / f"{stem}_genes.tsv"
  write_genes(genes, report.predictions.genes, store.table)
  write_json(path, {**report.to_json(), **origin})
  LOGGER.info("wrote %s and %s", path, genes)


def write_genes(path: AnyPath, genes: Mapping[str, np.ndarray], table: TrackTable) -> None:
  """Writes one line a gene of the split: place, operon, observed and predicted expression.

  Expression is empty where it was not measured.
  """
  columns = {
    key: _text(values) if values.dtype.kind == "f" else values
    for key, values in gene_table(genes, table).items()
  }
  with atomic_write(path) as file:
    writer = csv.writer(file, dialect="excel-tab", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))


def gene_table(genes: Mapping[str, np.ndarray], table: TrackTable) -> dict[str, np.ndarray]:
  """Returns the columns of a table of genes.

  Expression is ln(1 + TPM), NaN where it was not measured; `operon_probability` is the mean over
  the gene's bases. Genes of several contigs have theirs first.
  """
  columns = {
    key: genes[key]
    for key in (
      *(["contig"] if "contig" in genes else ()),
      "gene_id",
      "name",
      "locus_tag",
      "start",
      "end",
      "strand",
      "operon_id",
    )
  }
  columns["operon_probability"] = genes["probability"]
  observed, predicted = (table.to_log_tpm(genes[k]) for k in ("target_z", "predicted_z"))
  for i, track in enumerate(table.names):
    columns[f"observed_log_tpm:{track}"] = observed[:, i]
    columns[f"predicted_log_tpm:{track}"] = predicted[:, i]
  return columns


def _text(values: np.ndarray) -> list[str]:
  """Formats values with four decimals, NaN as nothing."""
  return ["" if np.isnan(v) else f"{v:.4f}" for v in values]
