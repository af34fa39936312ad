"""The first values of a run: fresh, or those of a checkpoint of ours or AlphaGenome's."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from alphaecoli.checkpoints.arrays import read_published
from alphaecoli.checkpoints.read import find_checkpoint, hash_checkpoint, open_checkpoint
from alphaecoli.errors import ConfigError
from alphaecoli.files import AnyPath, as_path
from alphaecoli.model import alphagenome as published
from alphaecoli.model.finetuning import head_of
from alphaecoli.model.functional import FunctionalModel, Values
from alphaecoli.schema import DATA_BEFORE, HEADS, Config, ModelConfig
from alphaecoli.tracks.organisms import Organisms
from alphaecoli.tracks.splits import TEST, TRAIN, VALIDATION, hash_genome, mask_of, total_bp
from alphaecoli.tracks.store import TrackStore
from alphaecoli.tracks.track_table import TrackTable, trained_heads

LOGGER = logging.getLogger(__name__)
_ORGANISMS = (f"{published.ROOT}/embed", "embeddings")  # one row each
_NOT_SIZES = (
  "n_organisms",
  "batch_norm_decay",
  "head_dropout",
  "head_dropout_of",
  "compute_dtype",
  "remat",
  "remat_policy",
)


@dataclasses.dataclass(frozen=True)
class PretrainedValues:
  """Values to start from.

  Attributes:
    path: directory they were read from.
    sha256: hash of the checkpoint's files.
    step: steps of training done, None where the checkpoint does not say.
    params: parameters by name, LoRA factors being part of their kernels; on the devices or not.
    stats: running statistics by name.
    model: sizes of the model.
    table: tracks that the heads predict; None without heads of ours.
    trained_heads: heads that had data and a weight.
    meta: JSON item of a checkpoint of ours.
    terms: address of the terms of AlphaGenome's parameters, if these are or began with them.
  """

  path: AnyPath
  sha256: str
  step: int | None
  params: Mapping[str, Any]
  stats: Mapping[str, Any]
  model: ModelConfig
  table: TrackTable | None = None
  trained_heads: tuple[str, ...] = ()
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  terms: str | None = None


def read_pretrained(path: str, config: Config, table: TrackTable, mesh: Mesh) -> PretrainedValues:
  """Reads what `init.checkpoint` names.

  Args:
    path: a run, its checkpoints or one of them; or the directory of AlphaGenome's parameters as
      they are downloaded.
    config: configuration of the run that starts.
    table: tracks of that run.
    mesh: devices for values of ours.

  Raises:
    DataError: it is neither, is broken, or AlphaGenome's parameters do not fit the model.
  """
  root = as_path(path).expanduser()
  if (root / "manifest.ocdbt").is_file():
    return _read_published(root, config.model, table)
  found = as_path(find_checkpoint(root))
  loaded = open_checkpoint(found, mesh=mesh)
  params, stats = loaded.values()
  return PretrainedValues(
    path=found,
    sha256=hash_checkpoint(found),
    step=loaded.step,
    params=params,
    stats=stats,
    model=loaded.config.model,
    table=loaded.table,
    trained_heads=trained_heads(loaded.config.loss.weights, loaded.table),
    meta=loaded.meta,
    terms=loaded.meta.get("init", {}).get("terms"),
  )


def _read_published(root: AnyPath, config: ModelConfig, table: TrackTable) -> PretrainedValues:
  """Reads AlphaGenome's parameters under our names; whatever number of organisms they have."""
  params, state = read_published(root)
  module, name = _ORGANISMS
  organisms = len(params.get(module, {}).get(name, ())) or config.n_organisms
  sizes = dataclasses.replace(config, n_organisms=organisms)
  functional = FunctionalModel.of_model(sizes, table)
  paths = published.convert(params, state, functional.module(), sizes)
  values = {"/".join(map(str, path)): value for path, value in paths.items()}
  # Hidden files belong to whoever downloaded the others.
  files = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
  return PretrainedValues(
    path=root,
    sha256=hash_checkpoint(root, files),
    step=None,
    params={name: value for name, value in values.items() if name in functional.params},
    stats={name: value for name, value in values.items() if name in functional.stats},
    model=sizes,
    terms=published.TERMS,
  )


def first_values(
  functional: FunctionalModel, config: Config, organisms: Organisms, mesh: Mesh
) -> tuple[Values, Values, dict[str, Any]]:
  """Returns parameters and running statistics before the first step.

  The trunk is the source's; so are its heads where they were trained and their tracks are the same.
  Rows of organisms that the source does not have, and LoRA factors, are fresh.

  Args:
    functional: model.
    config: configuration of the run; `init.checkpoint` names the source.
    organisms: tracks to be learnt.
    mesh: devices for the values.

  Returns:
    Parameters, statistics, and what checkpoints say of where the run began.

  Raises:
    ConfigError: the trunk has other sizes, or the source was trained on what is held out now.
    DataError: the source can not be read, or does not fit.
  """
  stores, table = organisms.stores, organisms.table
  if not config.init.checkpoint:
    params, stats = functional.init(config.train.seed, mesh)
    return params, stats, {"trained_on": with_stores([], stores)}
  source = read_pretrained(config.init.checkpoint, config, table, mesh)
  seen = [check_seen(source, store, config.init.allow_seen) for store in stores]
  check_trunk(functional, source, config.model)
  params, stats = functional.init(config.train.seed, mesh)
  heads = heads_to_take(source, table)
  given = in_units_of(source, table) if "gene_expression" in heads else source.params
  names = [n for n in params if n in given and (head_of(n) is None or head_of(n) in heads)]
  where_params, where_stats = functional.shardings(mesh)
  params |= {n: _take(params[n], given[n], where_params[n]) for n in names}
  stats = {n: _take(stats[n], source.stats[n], where_stats[n]) for n in stats}
  fresh = [head for head in HEADS if head not in heads]
  _say(source, config.model, len(names), len(stats), fresh)
  origin = {
    "from": str(source.path),
    "step": source.step,
    "sha256": source.sha256,
    "fresh_heads": fresh,
    "held_out_bp_seen": _sum(seen),
    "terms": source.terms,
    "before": source.meta.get("init"),
  }
  before = next(filter(None, (trained_on(source, store) for store in stores)), [])
  return params, stats, {"init": origin, "trained_on": with_stores(before, stores)}


def _sum(seen: Sequence[dict[str, int] | None]) -> dict[str, int] | None:
  """Sums the bases of each split over all organisms; None where the start does not say."""
  counts = [c for c in seen if c is not None]
  if len(counts) < len(seen):
    return None
  return {split: sum(c[split] for c in counts) for split in counts[0]}


def check_trunk(functional: FunctionalModel, source: PretrainedValues, config: ModelConfig) -> None:
  """Compares the trunk's arrays with the source's; only numbers of organisms may differ.

  Raises:
    ConfigError: others differ.
  """
  own = _trunk_shapes(
    {n: v.get_value() for n, v in {**functional.base, **functional.stats}.items()}
  )
  other = _trunk_shapes({**source.params, **source.stats})
  wrong = sorted(n for n in own.keys() | other.keys() if own.get(n) != other.get(n))
  if not wrong:
    return
  there, here = dataclasses.asdict(source.model), dataclasses.asdict(config)
  sizes = [k for k in here if k not in _NOT_SIZES and there[k] != here[k]]
  arrays = ", ".join(
    f"{n} is {other.get(n, 'absent')} there and {own.get(n, 'absent')} here" for n in wrong[:3]
  )
  raise ConfigError(
    f"init.checkpoint={source.path} is a trunk of other sizes: {arrays}; choose its sizes: "
    + " ".join(f"--config.model.{key}={there[key]}" for key in sizes)
  )


def _trunk_shapes(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
  """Returns shapes by name, without heads, and without numbers of organisms."""
  return {
    name: tuple(value.shape[1:] if name.endswith("organism/table") else value.shape)
    for name, value in values.items()
    if head_of(name) is None
  }


def heads_to_take(source: PretrainedValues, table: TrackTable) -> list[str]:
  """Returns the heads that mean here what they mean in the source, and have learnt it."""
  heads = list(source.trained_heads)
  if "gene_expression" in heads and source.table is not None and source.table.names != table.names:
    heads.remove("gene_expression")
  return heads


def in_units_of(source: PretrainedValues, table: TrackTable) -> dict[str, Any]:
  """Returns the source's parameters, its expression head predicting the same log TPM as before.

  z is by the source's mean and standard deviation there, and by the table's here.
  """
  assert source.table is not None
  old, new = source.table.expression, table.expression
  gain = np.array([a.std / b.std for a, b in zip(old, new, strict=True)], np.float32)
  shift = np.array([(a.mean - b.mean) / b.std for a, b in zip(old, new, strict=True)], np.float32)
  kernel, bias = (f"gene_expression/linear/{name}" for name in ("kernel", "bias"))
  return {
    **source.params,
    kernel: source.params[kernel] * gain[None],
    bias: source.params[bias] * gain + shift,
  }


def _take(fresh: jax.Array, given: Any, where: NamedSharding) -> jax.Array:
  """Puts a given array in place of a fresh one; rows of organisms that it lacks stay fresh."""
  if given.shape != fresh.shape:
    rows = min(len(given), len(fresh))
    given = fresh.at[:rows].set(given[:rows])
  if isinstance(given, np.ndarray):
    return jax.make_array_from_callback(given.shape, where, lambda index: given[index])
  return jax.device_put(given, where)


def _say(
  source: PretrainedValues, config: ModelConfig, n_params: int, n_stats: int, fresh: Sequence[str]
) -> None:
  """Logs what was taken and what was not."""
  step = "" if source.step is None else f", after step {source.step}"
  LOGGER.info("starting from %s%s", source.path, step)
  LOGGER.info("taken: %d arrays of parameters, %d of running statistics", n_params, n_stats)
  if source.terms:
    LOGGER.warning("AlphaGenome's model terms apply, for non-commercial use: %s", source.terms)
  for head in fresh:
    why = "its tracks are others" if head in source.trained_heads else "the start has none trained"
    LOGGER.warning("fresh head: %s, as %s", head, why)
  before, now = source.model.n_organisms, config.n_organisms
  if now > before:
    LOGGER.warning("fresh organisms: rows %d to %d of the embeddings", before, now - 1)
  if now < before:
    LOGGER.warning("of the start's %d organisms the first %d are kept", before, now)


Seen = Sequence[Mapping[str, Any]]


def training_data(store: TrackStore) -> dict[str, Any]:
  """Describes the bases of a contig that training sees; "arcs" is a key of the checkpoints."""
  return {
    "contig": store.contig,
    "genome_sha256": hash_genome(store.sequence),
    "arcs": [list(region) for region in store.regions(TRAIN)],
  }


def trained_on(source: PretrainedValues, store: TrackStore) -> Seen | None:
  """Returns what a start was trained on, of bacteria; None where it does not say."""
  if not source.meta:  # AlphaGenome's: human and mouse
    return []
  if "trained_on" in source.meta:
    return source.meta["trained_on"]
  same = source.meta["store_fingerprint"] == store.fingerprint  # it is older than this record
  return [training_data(own) for own in store.replicons] if same else None


def with_stores(seen: Seen, stores: Sequence[TrackStore]) -> list[dict[str, Any]]:
  """Adds to a record what training on stores sees."""
  entries = [dict(entry) for entry in seen]
  for now in (training_data(own) for store in stores for own in store.replicons):
    entries += [] if now in entries else [now]
  return entries


def held_out_seen(seen: Seen, store: TrackStore) -> dict[str, int]:
  """Counts the bases of each held-out split of a store that have been trained on."""
  counts = {VALIDATION: 0, TEST: 0}
  for own in store.replicons:
    digest, mask = hash_genome(own.sequence), np.zeros(own.length_bp, bool)
    for entry in seen:
      if entry["genome_sha256"] == digest:
        mask |= mask_of(entry["arcs"], own.length_bp)
    for split in counts:
      counts[split] += int((mask & mask_of(own.regions(split), own.length_bp)).sum())
  return counts


def check_seen(source: PretrainedValues, store: TrackStore, allowed: bool) -> dict[str, int] | None:
  """Compares what a start was trained on with what is held out now.

  Returns:
    Bases seen of each held-out split; None where the checkpoint does not say.

  Raises:
    ConfigError: some were, and that is not allowed.
  """
  seen = trained_on(source, store)
  if seen is None:
    LOGGER.warning(
      "the checkpoint %s does not say what it was trained on: where that was this genome with "
      "other folds, metrics on validation and test are not held out",
      source.path,
    )
    return None
  counts = held_out_seen(seen, store)
  if not any(counts.values()):
    return counts
  total = {s: sum(total_bp(own.regions(s)) for own in store.replicons) for s in counts}
  parts = " and ".join(f"{n:,} of {total[s]:,} bases of {s}" for s, n in counts.items() if n)
  text = (
    f"init.checkpoint={source.path} was trained on {parts}, so that metrics on them say nothing"
  )
  if not allowed:
    data = {**DATA_BEFORE, **source.meta["config"]["data"]}
    keys = ("fold", "n_folds", "n_blocks", "block_offset")
    flags = (f"--config.data.{key}={data[key]}" for key in keys)
    raise ConfigError(
      f"{text}; hold out what it held out ({' '.join(flags)}), or start all the same with "
      "--config.init.allow_seen=true"
    )
  LOGGER.warning("not held out: %s", text)
  return counts
