"""Track stores that a run trains on: one per organism, in the order of the organism embedding."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from alphaecoli.config import base_config, resolve
from alphaecoli.errors import ConfigError, DataError
from alphaecoli.files import AnyPath, is_remote
from alphaecoli.regulondb.dump import DumpProgress
from alphaecoli.schema import DATA_BEFORE, Config, DataConfig
from alphaecoli.tracks.process import process_data
from alphaecoli.tracks.store import TrackStore, open_store
from alphaecoli.tracks.track_table import (
  ExpressionTrack,
  TrackTable,
  TrainedOrganism,
  choose_organism,
  organisms_of,
  store_paths,
  tracks_folder,
)
from alphaecoli.tracks.write import fetch_store, open_prepared

LOGGER = logging.getLogger(__name__)
_DIVISION = ("n_blocks", "n_folds", "fold", "block_offset", "circular")


@dataclasses.dataclass(frozen=True)
class Organisms:
  """Stores with the same expression tracks; row i of the organism embedding is store i's.

  Attributes:
    stores: one track store per organism.
    shares: fractions of the training windows; they sum to 1.
  """

  stores: tuple[TrackStore, ...]
  shares: tuple[float, ...]

  @classmethod
  def of(cls, stores: Sequence[TrackStore], weights: Sequence[float] = ()) -> "Organisms":
    """Combines stores with weights, by default equal ones.

    Raises:
      ConfigError: two have the same name, or different tracks; names both.
    """
    first = stores[0]
    for i, store in enumerate(stores):
      if store.organism in [s.organism for s in stores[:i]]:
        raise ConfigError(
          f"data.stores: two organisms are called {store.organism!r}; prepare one with --name"
        )
      ours, theirs = store.table.names, first.table.names
      if ours != theirs:
        raise ConfigError(
          f"data.stores have other expression tracks: {first.organism} {', '.join(theirs)}; "
          f"{store.organism} {', '.join(ours)}; prepare them with the same track names "
          "(data.expression_groups)"
        )
    weights = weights or [1.0] * len(stores)
    return cls(tuple(stores), tuple(weight / sum(weights) for weight in weights))

  @property
  def trained(self) -> tuple[TrainedOrganism, ...]:
    """Returns the entries of a checkpoint, one per organism."""
    return tuple(TrainedOrganism(s.organism, s.table, s.fingerprint) for s in self.stores)

  @property
  def fingerprint(self) -> str:
    """Returns the fingerprint of the store; of several, a hash of theirs in order."""
    prints = [store.fingerprint for store in self.stores]
    return prints[0] if len(prints) == 1 else hashlib.sha256("".join(prints).encode()).hexdigest()

  @property
  def inputs(self) -> dict[str, Any]:
    """Returns the input files of the store; of several, by organism."""
    if len(self.stores) == 1:
      return self.stores[0].manifest["inputs"]
    return {store.organism: store.manifest["inputs"] for store in self.stores}

  @property
  def table(self) -> TrackTable:
    """Returns the table of the store; of several, weighted means, where the heads' biases start.

    A mean is over the organisms that have the data, weighted by `shares`.
    """
    tables = [store.table for store in self.stores]
    if len(tables) == 1:
      return tables[0]
    expression, operons = [t.has_expression for t in tables], [t.has_operons for t in tables]
    tracks = tuple(
      ExpressionTrack(
        same[0].name,
        same[0].strand,
        (),
        self._mean([t.mean for t in same], expression, 0.0),
        self._mean([t.std for t in same], expression, 1.0),
      )
      for same in zip(*(t.expression for t in tables), strict=True)
    )
    return TrackTable(
      tracks,
      self._mean([t.density_mean for t in tables], [True] * len(tables), 0.0),
      self._mean([t.operon_prevalence for t in tables], operons, 0.5),
      any(expression),
      any(operons),
    )

  def _mean(self, values: Sequence[float], counted: Sequence[bool], none: float) -> float:
    """Returns the mean of the counted values, weighted by `shares`; `none` where none counts."""
    pairs = [(v, s) for v, s, c in zip(values, self.shares, counted, strict=True) if c]
    return sum(v * s for v, s in pairs) / sum(s for _, s in pairs) if pairs else none


def open_organisms(
  config: Config, workdir: AnyPath, progress: DumpProgress | None = None
) -> Organisms:
  """Opens the stores that a configuration trains on: `data.stores`, or else that of its dump.

  Splits, tracks and thresholds of a store are fixed when it is prepared: keys with default values
  are ignored, and one that is set must equal that of the store.

  Args:
    config: configuration with the `data` section and `model.n_organisms`.
    workdir: directory of the run; the dump's store may lie there.
    progress: callback while geneExpression is read.

  Raises:
    ConfigError: the stores do not fit one another, or the configuration.
    DataError: as `process_data` and `open_store`.
  """
  data = config.data
  if not data.stores:
    return Organisms.of([process_data(config, workdir, progress)])
  stores = [open_prepared(path) for path in data.stores]
  if len(stores) > config.model.n_organisms:
    raise ConfigError(
      f"data.stores names {len(stores)} organisms and model.n_organisms="
      f"{config.model.n_organisms}; set --config.model.n_organisms={len(stores)}"
    )
  for store in stores:
    _check_settings(data, store)
  organisms = Organisms.of(stores, data.store_weights)
  for index, (store, share) in enumerate(zip(stores, organisms.shares, strict=True)):
    LOGGER.info("organism %d: %s, %.1f%% of the windows, %s", index, store.organism, 100 * share,
                store.path)  # fmt: skip
  return organisms


def as_prepared(config: Config, stores: Sequence[TrackStore]) -> Config:
  """Returns a configuration with the blocks and fold of prepared stores, as far as all agree.

  So checkpoints say how their chromosomes were divided, whatever the defaults of their day were.
  """
  kept = [{**DATA_BEFORE, **store.manifest["config"]} for store in stores]
  alike = {key: kept[0][key] for key in _DIVISION if all(k[key] == kept[0][key] for k in kept)}
  return dataclasses.replace(config, data=dataclasses.replace(config.data, **alike))


def find_store(
  meta: Mapping[str, Any],
  workdir: AnyPath,
  organism: str | int | None = None,
  build_with: Config | None = None,
) -> TrackStore:
  """Opens the track store that a run trained an organism on, without a look at others beside it.

  Args:
    meta: JSON item of a checkpoint of the run.
    workdir: directory of the run.
    organism: name or row of one of several.
    build_with: configuration to build a store of a dump again with, where it is gone.

  Raises:
    DataError: the store is gone, broken, or no longer what the run trained on.
    ConfigError: no such organism, or several to choose from.
  """
  paths, fingerprint = store_paths(meta, workdir, organism)
  if meta["config"]["data"].get("stores"):
    trained = organisms_of(meta)[choose_organism(organisms_of(meta), organism)]
    return _open_again(next((path for path in paths if path.exists()), paths[0]), trained)
  for path in paths:
    if path.is_dir() and (store := open_store(path)).fingerprint == fingerprint:
      return store
  if is_remote(workdir):
    here = tracks_folder(workdir) / fingerprint[:16]
    fetch_store(workdir / "tracks" / here.name, here)
    if here.is_dir() and (store := open_store(here)).fingerprint == fingerprint:
      return store
  if build_with is None:
    raise DataError(
      f"{paths[0].parent}: the track store of this run is not there; make it again with "
      "python -m alphaecoli.train --process-data-only and the run's configuration"
    )
  LOGGER.info("the run's track store is gone from %s, building it again", paths[0].parent)
  store = process_data(build_with, workdir)
  if store.fingerprint != fingerprint:
    raise DataError(
      f"{store.path}: built from other data than the checkpoint's (data.dump="
      f"{build_with.data.dump}, data.genome={build_with.data.genome} or their files have "
      "changed); restore them, or train again"
    )
  return store


def _open_again(path: AnyPath, trained: TrainedOrganism) -> TrackStore:
  """Opens one of `data.stores` and checks that it is what a checkpoint was trained on.

  Raises:
    DataError: it is gone, or was prepared again.
  """
  store = open_prepared(str(path))
  if store.fingerprint != trained.store_fingerprint:
    raise DataError(
      f"{store.path}: prepared again since the checkpoint was trained on {trained.name}; "
      "prepare it as it was, or train again"
    )
  return store


def _check_settings(data: DataConfig, store: TrackStore) -> None:
  """Compares the configuration's values with those that a store was prepared with.

  Raises:
    ConfigError: a value differs.
  """
  given, base = (_as_json(dataclasses.asdict(d)) for d in (data, resolve(base_config()).data))
  for key, kept in (_as_json(DATA_BEFORE) | store.manifest["config"]).items():
    if given[key] not in (kept, base[key]):
      raise ConfigError(
        f"data.{key}={given[key]!r}, and {store.path} was prepared with {kept!r}; leave it out, or "
        "prepare the store again with it"
      )


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
  """Converts a section to the form that it has in a manifest."""
  return json.loads(json.dumps(dict(values)))
