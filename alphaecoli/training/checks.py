"""Checks of data, model and checkpoints before accelerator hours, as `verify` prints them."""

import dataclasses
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from alphaecoli.checkpoints.arrays import ARRAYS, check_files
from alphaecoli.checkpoints.read import CHECKPOINTS_DIR, load_inference, read_meta
from alphaecoli.checkpoints.write import Checkpoints
from alphaecoli.data.pipeline import configured_batches, evaluation_batches
from alphaecoli.errors import DataError, UserError
from alphaecoli.files import AnyPath
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.batches import put_batch
from alphaecoli.parallel.sharding import n_window_shards
from alphaecoli.schema import BIN_BP, HEADS, Config
from alphaecoli.tracks.splits import SPLITS, TRAIN
from alphaecoli.tracks.store import TrackStore
from alphaecoli.training.loop import items_state, state_items
from alphaecoli.training.step import StepDefinition, TrainState

FALL = 0.9  # the loss must fall below this fraction of its first value
DRAWS = 512  # training windows looked at


class Check(NamedTuple):
  """The outcome of one check."""

  name: str
  ok: bool
  details: str


@dataclasses.dataclass(frozen=True)
class Subject:
  """What is checked."""

  config: Config
  workdir: AnyPath
  store: TrackStore
  mesh: Mesh
  steps: int


def checks(subject: Subject, trains: bool = True) -> Iterator[Check]:
  """Makes every check, in order; a failure that has a message counts as a failed check.

  Args:
    subject: store of one contig, and what it is checked with.
    trains: whether the model is tried on it too, as once for a genome.
  """
  parts: tuple[tuple[str, Callable[[Subject], Iterator[Check]]], ...] = (
    ("store intact", store_intact),
    ("targets", targets_not_zero),
    ("statistics", statistics_finite),
    ("splits", splits_disjoint),
    ("batch", batch_shapes),
    ("model", model_learns),
  )
  for name, part in parts if trains else parts[:4]:
    try:
      yield from part(subject)
    except UserError as error:
      yield Check(name, False, str(error))


def checkpoints_intact(workdir: AnyPath) -> Iterator[Check]:
  """Checks that every file of the checkpoints in a work directory is what was written."""
  folders = [p for p in (workdir / CHECKPOINTS_DIR).glob("*") if p.name.isdigit()]
  for path in sorted(folders, key=lambda p: int(p.name)):
    try:
      summed = check_files(path, read_meta(path), ARRAYS)
      details = "every file matches its checksum" if summed else "written without checksums"
      yield Check(f"checkpoint {path.name}", True, details)
    except DataError as error:
      yield Check(f"checkpoint {path.name}", False, str(error))


def store_intact(subject: Subject) -> Iterator[Check]:
  """Checks that every file of the store is what was written."""
  subject.store.verify()
  yield Check("store", True, f"{subject.store.path}, every file matches its hash")


def targets_not_zero(subject: Subject) -> Iterator[Check]:
  """Checks that each split has known targets that are not all the same."""
  store = subject.store
  for split in _splits(store):
    positions = _positions(store, split)
    expression = np.asarray(store.gene_expression)[positions]
    known = ~np.isnan(expression)
    member = store.operon_membership[positions[store.operon_known[positions]]]
    operon = float(member.mean()) if member.size else 0.0
    density = _densities(store, split)
    spread = float(np.std(expression[known])) if known.any() else 0.0
    good = spread > 0 or not store.table.has_expression
    good &= 0 < operon < 1 or not store.table.has_operons
    good &= bool(density.std() > 0)
    yield Check(
      f"targets of {split}",
      bool(good),
      f"{len(positions):,} bases; expression known at {known.mean():.1%}, standard deviation "
      f"{spread:.3f}; {density.mean():.3f} genes per {BIN_BP} bp; in operons {operon:.1%}",
    )
  for name, present in (
    ("expression", store.table.has_expression),
    ("operons", store.table.has_operons),
  ):
    if not present:
      yield Check(f"no {name}", True, "the store has none: that head is not trained")


def statistics_finite(subject: Subject) -> Iterator[Check]:
  """Checks the numbers that targets and heads are scaled with."""
  table = subject.store.table
  mean, std = (np.array([getattr(t, k) for t in table.expression]) for k in ("mean", "std"))
  good = np.isfinite([mean, std]).all() and (std > 0).all() and np.isfinite(table.density_mean)
  yield Check(
    "statistics finite",
    bool(good and 0 <= table.operon_prevalence <= 1),
    f"{len(table.expression)} tracks, mean log(1 + TPM) {mean.min():.3f} to {mean.max():.3f}, "
    f"standard deviation {std.min():.3f} to {std.max():.3f}; density {table.density_mean:.3f}; "
    f"operon prevalence {table.operon_prevalence:.3f}",
  )


def splits_disjoint(subject: Subject) -> Iterator[Check]:
  """Checks that no base belongs to two splits, nor lies in windows of two."""
  store, config = subject.store, subject.config
  owners = np.zeros(store.length_bp, np.int64)
  for split in SPLITS:
    np.add.at(owners, _positions(store, split), 1)
  shared = int((owners > 1).sum())
  yield Check(
    "splits disjoint", not shared, f"{shared} bases in two splits, {store.length_bp:,} bp"
  )
  held_out = np.zeros(store.length_bp, bool)
  for split in SPLITS[1:]:
    held_out[_positions(store, split)] = True
  window = np.arange(config.data.window_bp)
  leaks = 0
  batch = config.train.batch_windows
  with _training(subject, batch) as stream:
    for _ in range(-(-DRAWS // batch)):
      starts = next(stream)["start"]
      leaks += sum(int(held_out[(s + window) % store.length_bp].any()) for s in starts)
  drawn = -(-DRAWS // batch) * batch
  yield Check("training windows", not leaks, f"{leaks} of {drawn} drawn reach held-out bases")
  for split in _splits(store)[1:]:
    known = 0
    shards = n_window_shards(subject.mesh)
    with evaluation_batches(
      store, split, window_bp=config.data.window_bp, batch_windows=shards
    ) as stream:
      for tile in stream:
        known += int(tile["operon_membership_known"].any(-1).sum())
    positions = _positions(store, split)
    want = int(store.operon_known[positions].sum()) if store.table.has_operons else 0
    yield Check(f"{split} windows", known == want, f"cover {known:,} of {want:,} known bases once")


def batch_shapes(subject: Subject) -> Iterator[Check]:
  """Checks that a batch is as specified, and that the model's outputs fit it."""
  store, data = subject.store, subject.config.data
  rows, length = subject.config.train.batch_windows, data.window_bp
  with _training(subject, rows) as stream:
    batch = next(stream)
  shapes: dict[str, tuple[tuple[int, ...], type]] = {
    "sequence": ((rows, length), np.uint8),
    "start": ((rows,), np.int32),
    "reverse": ((rows,), np.bool_),
    "organism": ((rows,), np.int32),
  }
  for name, head in HEADS.items():
    shape = (rows, *store.table.shape(head, length))
    shapes[name], shapes[f"{name}_known"] = (shape, np.float32), (shape, np.bool_)
  wrong = [
    f"{name} {batch[name].dtype} {batch[name].shape}"
    for name, (shape, dtype) in shapes.items()
    if batch[name].shape != shape or batch[name].dtype != dtype
  ]
  yield Check("batch", not wrong, ", ".join(wrong) or f"{rows} windows of {length:,} bp")
  functional = FunctionalModel.of_model(subject.config.model, store.table)
  outputs: Any = jax.eval_shape(
    lambda params, stats, x, o: functional.merge(params, stats)(x, o),
    *functional.abstract(subject.mesh),
    jax.ShapeDtypeStruct((rows, length), np.uint8),
    jax.ShapeDtypeStruct((rows,), np.int32),
  )
  wrong = [f"{h} {outputs[h].shape}" for h in HEADS if outputs[h].shape != shapes[h][0]]
  size = sum(int(np.prod(v.get_value().shape)) for v in functional.params.values())
  yield Check(
    "model outputs", not wrong, ", ".join(wrong) or f"fit the targets; {size:,} parameters"
  )


def model_learns(subject: Subject) -> Iterator[Check]:
  """Checks that the model fits one batch, and that its checkpoint comes back bit for bit."""
  config, store, mesh = subject.config, subject.store, subject.mesh
  definition = StepDefinition.of_config(_one_batch(config, subject.steps), store.table, mesh)
  rows = n_window_shards(mesh)  # the smallest batch the mesh can hold
  with _training(subject, rows) as stream, jax.set_mesh(mesh):
    batch = put_batch(next(stream), mesh)
    state, step = definition.init_state(config.train.seed), definition.jit()
    key, history = jax.random.key(config.train.seed), []
    for _ in range(subject.steps):
      state, metrics = step(state, batch, key)
      history.append(metrics)
    totals = [float(m["loss/total"]) for m in history]
    names = [n for n in history[0] if n.startswith("loss/") and n != "loss/total"]
    parts = ", ".join(
      f"{n.removeprefix('loss/')} {float(history[0][n]):.3f} to {float(history[-1][n]):.3f}"
      for n in names
    )
    yield Check(
      "loss falls on one batch",
      bool(np.isfinite(totals).all() and min(totals[-3:]) < FALL * totals[0]),
      f"{totals[0]:.3f} to {totals[-1]:.3f} in {subject.steps} steps on {rows} windows ({parts})",
    )
    finite = all(bool(np.isfinite(np.asarray(s)).all()) for s in state.stats.values())
    yield Check("running statistics finite", finite, f"{len(state.stats)} of them")
    folder = subject.workdir / f"verify-{uuid.uuid4().hex[:8]}"
    try:
      yield _round_trip(subject, definition, state, folder)
    finally:
      epath.Path(folder).rmtree(missing_ok=True)


def _one_batch(config: Config, steps: int) -> Config:
  """Returns the configuration for so many steps on one batch: quick, whole and without dropout."""
  return dataclasses.replace(
    config,
    model=dataclasses.replace(config.model, head_dropout=0.0),
    optimizer=dataclasses.replace(config.optimizer, warmup_steps=min(5, steps // 2)),
    train=dataclasses.replace(config.train, steps=10 * steps, accumulate_steps=1),
  )


def _round_trip(
  subject: Subject, definition: StepDefinition, state: TrainState, folder: AnyPath
) -> Check:
  """Saves, restores as training does and as prediction does, and compares every bit."""
  meta = {"config": subject.config.to_dict(), "table": subject.store.table.to_json()}
  with Checkpoints(folder, keep_last=1, keep_best=0) as checkpoints:
    items = state_items(state)
    checkpoints.save(int(state.step), items, meta)
    checkpoints.wait()
    abstract = state_items(definition.abstract_state())
    restored = checkpoints.restore_newest(abstract, lambda meta: None)
  assert restored is not None
  back = items_state(restored.items)
  same = all(
    np.array_equal(np.asarray(a), np.asarray(b))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(back), strict=True)
  )
  loaded = load_inference(folder)
  params, stats = definition.functional.split(loaded.model)
  same &= all(np.array_equal(params[n], np.asarray(v)) for n, v in items["params"].items())
  same &= all(np.array_equal(stats[n], np.asarray(v)) for n, v in items["stats"].items())
  same &= loaded.table == subject.store.table
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  return Check(
    "checkpoint round-trips", bool(same), f"{size / 1e6:,.1f} MB, for training and for prediction"
  )


def _training(subject: Subject, rows: int) -> Any:
  """Returns the training stream with so many windows a batch."""
  return configured_batches(subject.store, subject.config, batch_windows=rows)


def _splits(store: TrackStore) -> tuple[str, ...]:
  """Returns the splits that a contig has: all, or that for training alone."""
  return tuple(split for split in SPLITS if split == TRAIN or store.regions(split))


def _positions(store: TrackStore, split: str) -> np.ndarray:
  """Returns the positions of a split's bases on the chromosome."""
  positions = [
    np.arange(region.start, region.end) % store.length_bp for region in store.regions(split)
  ]
  return np.concatenate(positions) if positions else np.zeros(0, np.int64)


def _densities(store: TrackStore, split: str) -> np.ndarray:
  """Returns genes per bin along a split, in bins of 128 bp from the start of each region."""
  values = [
    store.window(region.start, (region.end - region.start) // BIN_BP * BIN_BP)["gene_density"]
    for region in store.regions(split)
  ]
  return np.concatenate(values) if values else np.zeros(0, np.float32)
