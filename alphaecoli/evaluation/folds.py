"""All folds of a chromosome as one result: metrics with deviations, predictions out of fold.

A fold's folder holds its run and, beside `evaluation_<split>.json`, a file of what is needed of it
here, `evaluation_<split>.npz`. Gathering reads these files alone.
"""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alphaecoli.checkpoints.read import (
  CHECKPOINTS_DIR,
  GENE_MODELS,
  find_checkpoint,
  hash_checkpoint,
  read_meta,
)
from alphaecoli.checkpoints.write import one_first
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.evaluation.fold_metrics import Aggregate, FoldResult, aggregate, write_npz
from alphaecoli.evaluation.run import evaluate_run, fit_gene_models
from alphaecoli.files import AnyPath, absolute, is_remote, tsv_writer, write_json
from alphaecoli.schema import DATA_BEFORE, Config, DataConfig
from alphaecoli.tracks.organisms import as_prepared
from alphaecoli.tracks.replicons import fold_of, refold
from alphaecoli.tracks.splits import TEST
from alphaecoli.tracks.store import TrackStore
from alphaecoli.tracks.track_table import tracks_folder
from alphaecoli.tracks.write import open_prepared

LOGGER = logging.getLogger(__name__)
# Where folds differ in these sections, apart from these keys, their metrics have no one meaning.
_SECTIONS = ("data", "model", "init", "train", "optimizer", "loss")
_OWN_KEYS = ("fold", "stores", "store_dir", "read_threads", "prefetch")


def fold_folder(workdir: AnyPath, fold: int) -> AnyPath:
  """Returns the folder of a fold's run."""
  return workdir / f"fold_{fold}"


def fold_config(config: Config, workdir: AnyPath, fold: int) -> Config:
  """Returns the configuration of one fold; the stores of all folds lie beside each other.

  A prepared store gives one for every fold: `write_fold` writes it.

  Raises:
    ConfigError: several stores are given.
    DataError: the one that is given can not be opened.
  """
  stores, store_dir = config.data.stores, config.data.store_dir
  if stores:
    path = fold_of(_prepared(config), fold, _store_folder(config, workdir))
    stores = (str(path),)
  elif not is_remote(workdir):  # in a bucket each fold keeps its own
    store_dir = store_dir or str(absolute(workdir) / "tracks")
  data = dataclasses.replace(config.data, fold=fold, store_dir=store_dir, stores=stores)
  return dataclasses.replace(config, data=data)


def divided_as_prepared(config: Config) -> Config:
  """Returns a configuration with the blocks and folds of the store that it names, if it does.

  Raises:
    ConfigError or DataError: see `fold_config`.
  """
  return as_prepared(config, [_prepared(config)]) if config.data.stores else config


def write_fold(config: Config, workdir: AnyPath, fold: int) -> None:
  """Writes the store of a fold of `data.stores`, unless it is there; every process calls this.

  Raises:
    ConfigError or DataError: see `fold_config` and `refold`.
  """
  folder = _store_folder(config, workdir)
  if config.data.stores:
    one_first("track store of a fold", lambda: refold(_prepared(config), fold, folder).path)


def _store_folder(config: Config, workdir: AnyPath) -> Path:
  """Returns where the stores of all folds lie on this machine."""
  return Path(config.data.store_dir or tracks_folder(absolute(workdir)))


def _prepared(config: Config) -> TrackStore:
  """Opens the one store that folds are cut of.

  Raises:
    ConfigError: there are several.
    DataError: it can not be opened.
  """
  if len(config.data.stores) > 1:
    raise ConfigError(
      f"data.stores names {len(config.data.stores)} organisms, and folds are cut of one: "
      "cross-validate each by itself"
    )
  return open_prepared(config.data.stores[0])


def evaluate_fold(folder: AnyPath, split: str, rivals: bool = False) -> None:
  """Measures the best checkpoint of a fold, unless that is done; every process calls this.

  Args:
    folder: work directory of the fold's run.
    split: validation or test.
    rivals: whether simple rules are measured too.

  Raises:
    UserError: see the message.
  """
  path = _result_path(folder, split)

  def is_done() -> bool:
    result = _current_result(folder, split)
    return result is not None and (not rivals or "rivals" in result.metadata["report"])

  if GENE_MODELS not in read_meta(find_checkpoint(folder)):  # of an earlier version
    fit_gene_models(folder)
  if one_first("evaluation of a fold", is_done):
    LOGGER.info("%s: evaluated before, %s", folder, path.name)
    return
  ((loaded, store, report),) = evaluate_run(folder, split, rivals=rivals)
  if jax.process_index() == 0:
    FoldResult.of(loaded, store, report).write(path)


def _result_path(folder: AnyPath, split: str) -> AnyPath:
  """Returns the path of the file of a fold."""
  return folder / f"evaluation_{split}.npz"


def _current_result(folder: AnyPath, split: str) -> FoldResult | None:
  """Reads what a fold's best checkpoint gave; None where it is not evaluated."""
  path = _result_path(folder, split)
  if not path.exists():
    return None
  result = FoldResult.read(path)
  best = hash_checkpoint(find_checkpoint(folder))
  return result if result.metadata["checkpoint_sha256"] == best else None


def gather(workdir: AnyPath, data: DataConfig, split: str) -> Aggregate:
  """Puts together the folds that are evaluated, and writes the files of all.

  Args:
    workdir: folder of the folds' folders; receiver of crossvalidation.json, crossvalidation.tsv,
      out_of_fold.npz, out_of_fold_genes.tsv and out_of_fold_pairs.tsv, with `_<split>` after the
      first word or words where the split is not the test split.
    data: data section, which says how many folds there are.
    split: validation or test.

  Raises:
    DataError: folds do not fit each other, or files can not be read or written.
  """
  found = {k: _current_result(fold_folder(workdir, k), split) for k in range(data.n_folds)}
  results = {fold: result for fold, result in found.items() if result is not None}
  check_alike(results, data)
  reports = {fold: result.metadata["report"] for fold, result in results.items()}
  metrics = aggregate(reports, split, data.n_folds)
  suffix = "" if split == TEST else f"_{split}"
  write_json(
    workdir / f"crossvalidation{suffix}.json",
    {**metrics.to_json(), "members": [_member(fold, r) for fold, r in results.items()]},
  )
  metrics.write_tsv(workdir / f"crossvalidation{suffix}.tsv")
  if results:
    write_npz(workdir / f"out_of_fold{suffix}.npz", assemble(results))
    for name in ("genes", "pairs"):
      columns = join_tables({fold: getattr(r, name) for fold, r in results.items()})
      with tsv_writer(workdir / f"out_of_fold{suffix}_{name}.tsv", list(columns)) as add:
        for row in zip(*(values.tolist() for values in columns.values()), strict=True):
          add(row)
  LOGGER.info("wrote crossvalidation%s and out_of_fold%s files to %s", suffix, suffix, workdir)
  return metrics


def _member(fold: int, result: FoldResult) -> dict[str, Any]:
  """Describes one fold's model: where its checkpoint lies, and which one it is."""
  metadata = result.metadata
  return {
    "fold": fold,
    "checkpoint": str(fold_folder(Path(), fold) / CHECKPOINTS_DIR / metadata["checkpoint"]),
    "checkpoint_sha256": metadata["checkpoint_sha256"],
    "step": metadata["step"],
  }


def check_alike(results: Mapping[int, FoldResult], data: DataConfig) -> None:
  """Compares the configurations of folds; warns of what differs.

  Raises:
    DataError: a fold is of another division of the chromosome, or has another fold's number.
  """
  layout = ("n_blocks", "n_folds", "block_offset")
  expected = {key: getattr(data, key) for key in layout}
  configs = {fold: result.metadata["config"] for fold, result in results.items()}
  configs = {k: {**c, "data": {**DATA_BEFORE, **c["data"]}} for k, c in configs.items()}
  for fold, config in configs.items():
    wanted = {**expected, "fold": fold}
    found = {key: config["data"][key] for key in wanted}
    if found != wanted:
      raise DataError(f"{fold_folder(Path(), fold)} holds a run with {found}; expected {wanted}")
  first: Mapping[str, Any] = next(iter(configs.values()), {})
  differing = {
    f"{section}.{key}"
    for config in configs.values()
    for section in _SECTIONS
    for key in config[section].keys() | first[section].keys()
    if key not in _OWN_KEYS and config[section].get(key) != first[section].get(key)
  }
  if differing:
    LOGGER.warning("the folds were trained with different %s", ", ".join(sorted(differing)))


def assemble(results: Mapping[int, FoldResult]) -> dict[str, np.ndarray]:
  """Puts the predictions of held-out bases together for the whole chromosome.

  Args:
    results: results by fold, of at least one.

  Returns:
    The arrays of out_of_fold.npz: the heads as in `FoldResult.bases`, over the chromosome, NaN
    where no fold is done; `fold`, whose model predicted each base, -1 for none; `tracks`, names of
    the columns of gene_expression; `contig`. Of several contigs the bases lie one contig after the
    other, with the names of all in `contigs` and their lengths in `contig_bp`.

  Raises:
    DataError: two folds hold the same base, or are of different chromosomes or tracks.
  """
  first = next(iter(results.values()))
  length_bp, tracks = first.layout.length_bp, first.metadata["tracks"]
  fold_of_base = np.full(length_bp, -1, np.int16)
  heads = {
    head: np.full((length_bp, *values.shape[1:]), np.nan, np.float32)
    for head, values in first.bases.items()
  }
  for fold, result in results.items():
    if (result.layout.length_bp, result.metadata["tracks"]) != (length_bp, tracks):
      raise DataError(f"fold {fold} is of another chromosome, or has other expression tracks")
    positions = result.layout.positions()
    if (taken := fold_of_base[positions]).max(initial=-1) >= 0:
      raise DataError(f"folds {taken.max()} and {fold} have predicted the same bases")
    fold_of_base[positions] = fold
    for head, values in heads.items():
      values[positions] = result.bases[head]
  names = {"tracks": np.array(tracks), "contig": np.array(first.metadata["contig"])}
  if first.layout.contigs:
    names["contigs"] = np.array(first.metadata["contigs"])
    names["contig_bp"] = np.array([part.length_bp for part in first.layout.parts])
  return {**heads, "fold": fold_of_base, **names}


def join_tables(tables: Mapping[int, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
  """Joins the tables of folds, in the order of `start` on each contig, `fold` first."""
  numbers = [np.full(len(columns["start"]), fold) for fold, columns in tables.items()]
  # A fold's checkpoint may lack what others have: a head, or a pair model.
  names = [n for n in next(iter(tables.values())) if all(n in t for t in tables.values())]
  joined = {"fold": np.concatenate(numbers)}
  joined |= {name: np.concatenate([table[name] for table in tables.values()]) for name in names}
  contig = joined.get("contig", np.zeros(len(joined["start"])))
  order = np.lexsort((joined["start"], contig))
  return {name: values[order] for name, values in joined.items()}
