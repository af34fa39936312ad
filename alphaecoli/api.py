"""What `import alphaecoli` gives: a predictor from a checkpoint, genomes, variants, stores."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from alphaecoli.checkpoints.packed import DEFAULT_MEMBERS, GENOMES, MARGIN_BP, locate_model
from alphaecoli.checkpoints.read import (
  LoadedCheckpoint,
  find_ensemble,
  gene_models_of,
  open_checkpoint,
  read_ensemble,
)
from alphaecoli.config import heads_of
from alphaecoli.errors import ConfigError
from alphaecoli.files import DEFAULT_MODEL, AnyPath, as_path, is_remote, read_json
from alphaecoli.genomics.intervals import Interval
from alphaecoli.genomics.read import read_variants
from alphaecoli.genomics.vcf import as_variants
from alphaecoli.inference.arguments import as_genome, locate
from alphaecoli.inference.compiled import (
  Called,
  CompiledModel,
  Programs,
  batch_rows,
  data_mesh,
  hash_sources,
)
from alphaecoli.inference.ensemble import Ensemble
from alphaecoli.inference.predictor import Predictor as WindowPredictor
from alphaecoli.inference.tiling import default_margin, stretch_length
from alphaecoli.parallel.hardware import default_batch, local_devices
from alphaecoli.schema import PAIR_BP
from alphaecoli.tracks.track_table import TrackTable, choose_organism, trained_heads
from alphaecoli.variants.attribution import STEPS, attribution
from alphaecoli.variants.edits import UPSTREAM_BP
from alphaecoli.variants.mutagenesis import SUBSTITUTIONS, Mutagenesis, as_target, mutagenesis
from alphaecoli.variants.scores import VariantScores
from alphaecoli.variants.scoring import random_sizes, score_variants, with_quantile


class Predictor(WindowPredictor):
  """A trained model that predicts, embeds, scores variants and mutates sequences of any length."""

  def score_variants(
    self,
    variants: Any,
    genome: Any,
    *,
    upstream_bp: int = UPSTREAM_BP,
    reverse_complement: bool = False,
    offsets: int = 1,
    background: int = 0,
    seed: int = 0,
  ) -> VariantScores:
    """Scores variants: what the model says of the changed genome minus that of the unchanged one.

    Args:
      variants: a data frame with chrom, pos (1-based), ref, alt; `Variant` objects; or the name of
        a VCF file.
      genome: genome from `alphaecoli.read_genome` (with an annotation, genes are scored too), a
        `Contig`, contigs by name or in a list, or a file's name.
      upstream_bp: distance before a gene's start from which on a variant affects it.
      reverse_complement: whether to average the predictions of both strands: twice the work.
      offsets: places of the windows on the model's grid over which changes are averaged.
      background: random variants of each kind among these (so many bases removed and inserted) that
        are scored too, for `quantile`; 0 for none.
      seed: seed of their draw.

    Returns:
      One score a variant and allele, in order; refused ones with the reason.

    Raises:
      DataError: not variants, or a file is broken.
      ConfigError: so many offsets are not possible.
    """
    annotated = as_genome(genome)
    is_file = isinstance(variants, str | Path)
    asked = read_variants(Path(variants), annotated.values()) if is_file else as_variants(variants)
    how: dict[str, Any] = {"reverse_complement": reverse_complement, "offsets": offsets}
    sizes = random_sizes(self, asked, annotated, background, seed=seed, **how)
    scores = score_variants(
      self, asked, annotated, annotated.features, upstream_bp=upstream_bp, **how
    )
    found = (with_quantile(score, sizes) for score in scores)
    return VariantScores(tuple(found), self.table, has_spread=self.has_spread)

  def ism(
    self,
    interval: Any,
    genome: Any,
    *,
    target: Any = None,
    method: str = SUBSTITUTIONS,
    steps: int = STEPS,
    reverse_complement: bool = False,
  ) -> Mutagenesis:
    """Replaces each base of a region by the three others, and measures a target.

    Args:
      interval: region, as for `predict`; it must fit in one window, and may pass the origin of a
        circular contig.
      genome: genome, as for `score_variants`.
      target: bases over whose mean the effect is measured: a gene's name or locus tag, or an
        interval of the same contig; by default the region itself.
      method: substitutions; or gradient or integrated, which estimate them from gradients, in the
        time of a few windows whatever the region's length.
      steps: places on the path of integrated gradients.
      reverse_complement: whether to average the predictions of both strands: twice the work.

    Raises:
      ConfigError: the region or the target does not fit.
    """
    annotated = as_genome(genome)
    _, name, _, bounds = locate(annotated, interval, None)
    contig = annotated[name]
    start, end = bounds or (0, contig.length_bp)
    where = as_target(target, annotated, Interval(name, start, end))
    asked = (self, contig, start, end, where)
    if method == SUBSTITUTIONS:
      return mutagenesis(*asked, reverse_complement=reverse_complement)
    return attribution(*asked, method=method, steps=steps, reverse_complement=reverse_complement)


class EnsemblePredictor(Ensemble, Predictor):
  """An ensemble that predicts, scores variants and mutates sequences of any length."""


def load_predictor(
  checkpoint: str | AnyPath = DEFAULT_MODEL,
  *,
  device: str | jax.Device | Sequence[jax.Device] | None = None,
  batch_windows: int | None = None,
  margin_bp: int | None = None,
  window_bp: int | None = None,
  organism: str | int | None = None,
  out_of_fold: bool | None = None,
  members: int | str | None = None,
) -> Predictor:
  """Loads a model for prediction.

  Args:
    checkpoint: name of a shipped model (`python -m alphaecoli.models` lists them), one checkpoint,
      a run's directory (its best checkpoint, else its last), or an ensemble: the directory of
      alphaecoli.crossvalidate, or a file like its ensemble.json.
    device: platform such as cpu, or devices; None for all devices of this process.
    batch_windows: windows at once, over all devices; by default what fills them. Rounded up to a
      multiple of the number of devices.
    margin_bp: bases dropped on either side of each window, a multiple of 128; by default what the
      model was exported with, else a quarter of the window.
    window_bp: bases the model sees at once, a multiple of 2,048; by default what it was trained on.
      Other windows are quicker or see further, but the model has not learnt from them.
    organism: name or row of the organism whose tracks are predicted, where the model was trained
      on several.
    out_of_fold: whether an ensemble predicts each base of a genome that it was trained on by those
      members alone that have not seen it. By default it does in contigs that share bases with such
      a genome, as far as there are such members; True refuses what is not out of fold everywhere;
      False predicts all with all members.
    members: most members of an ensemble that predict a base, or "all"; by default what the
      ensemble's file says, else all.

  Raises:
    DataError: there is no checkpoint, or it is broken.
    ConfigError: an option is out of range, or members of an ensemble predict other things.
  """
  if batch_windows is not None and batch_windows < 1:
    raise ConfigError(f"batch_windows={batch_windows}; expected at least 1")
  options = (local_devices(device), batch_windows, margin_bp, window_bp, organism)
  located = locate_model(checkpoint)
  ensemble = find_ensemble(located)
  if ensemble is None:
    if out_of_fold:
      raise ConfigError(
        f"{checkpoint} is no ensemble, and out of fold needs one, such as the directory of "
        "alphaecoli.crossvalidate"
      )
    predictor, model, _ = _load(as_path(located), *options, {})
    _ = model.values  # now, so that what is broken is said here
    return predictor
  most = most_members(members, read_json(ensemble).get(DEFAULT_MEMBERS))
  shared: dict[str, tuple[Programs, LoadedCheckpoint]] = {}
  each = [_load(as_path(path), *options, shared) for path in read_ensemble(ensemble)]
  for _, model, _ in each[:most]:  # the others' values are read where they are asked
    _ = model.values
  loaded = [member for member, _, _ in each]
  metas = [meta for _, _, meta in each]
  about = {"checkpoint": str(ensemble), "organism": loaded[0].about["organism"]}
  known = out_of_fold or (out_of_fold is None and all("trained_on" in meta for meta in metas))
  return EnsemblePredictor(
    loaded,
    about=about,
    trained=metas if known else None,
    strict=bool(out_of_fold),
    genomes=None if is_remote(ensemble) else Path(ensemble).parent / GENOMES,
    most=most,
  )


def most_members(asked: int | str | None, default: int | None) -> int | None:
  """Returns how many members predict a base at most, None for all.

  Args:
    asked: number, or its text, or "all"; None for the default.
    default: number in the ensemble's file; None where it has none.

  Raises:
    ConfigError: something else.
  """
  if asked is None or asked == "all":
    return default if asked is None else None
  if not str(asked).isdecimal() or int(asked) < 1:
    raise ConfigError(f"members={asked}; expected a number from 1 on, or all")
  return int(asked)


def _load(
  path: AnyPath,
  devices: Sequence[jax.Device],
  batch_windows: int | None,
  margin_bp: int | None,
  window_bp: int | None,
  organism: str | int | None,
  shared: dict[str, tuple[Programs, LoadedCheckpoint]],
) -> tuple[Predictor, CompiledModel, dict[str, Any]]:
  """Loads one checkpoint, but for its arrays, which are read when they are needed.

  Args:
    path: directory of a checkpoint or run.
    devices: devices of the windows; the other arguments are those of `load_predictor`.
    batch_windows: windows at once.
    margin_bp: bases dropped.
    window_bp: bases seen at once.
    organism: name or row.
    shared: programs of the checkpoints loaded before, to which this one's are added.

  Returns:
    The predictor, its model, and the JSON item of the checkpoint.
  """
  loaded = open_checkpoint(path, mesh=data_mesh(devices))
  row = choose_organism(loaded.organisms, organism)
  name, table = loaded.organisms[row].name, loaded.organisms[row].table
  window_bp = window_bp or loaded.config.data.window_bp
  if window_bp < 1 or window_bp % PAIR_BP:
    raise ConfigError(f"window_bp={window_bp}; expected a multiple of {PAIR_BP}")
  batch = batch_windows or default_batch(window_bp, devices)
  if margin_bp is None and window_bp == loaded.config.data.window_bp:
    margin_bp = loaded.meta.get(MARGIN_BP)
  if margin_bp is None:
    margin_bp = default_margin(window_bp)
  batch = -(-batch // len(devices)) * len(devices)
  stretch_bp = stretch_length(window_bp, margin_bp)
  rows = batch_rows(stretch_bp, batch, window_bp, len(devices))
  called = ((batch, window_bp), None), ((rows, stretch_bp), (window_bp, margin_bp))
  model = _compiled(loaded, table, devices, row, called, shared)
  predictor = Predictor(
    model,
    table,
    window_bp=window_bp,
    margin_bp=margin_bp,
    batch_windows=batch,
    trained_heads=trained_heads(loaded.config.loss.weights, table),
    about={
      "checkpoint": str(loaded.path),
      "step": loaded.step,
      "organism": name,
      "config": loaded.config.to_dict(),
    },
    gene_models=gene_models_of(loaded.meta, name),
  )
  return predictor, model, loaded.meta


def _compiled(
  loaded: LoadedCheckpoint,
  table: TrackTable,
  devices: Sequence[jax.Device],
  row: int,
  called: Sequence[Called],
  shared: dict[str, tuple[Programs, LoadedCheckpoint]],
) -> CompiledModel:
  """Makes the model of a checkpoint; those that differ in their values alone share programs."""
  heads = heads_of(loaded.meta["config"])
  described: dict[str, Any] = {
    "model": loaded.config.to_dict()["model"],
    "heads": [dataclasses.astuple(head) for head in heads.values()],
    "reverse_order": table.reverse_order,
    "organism": row,
    "sources": hash_sources(),
  }
  name, own = repr(described), any(head.module for head in heads.values())  # not in this package
  if name not in shared:

    def build(values: Any) -> Any:
      return loaded.functional.without_factors().merge(*values)

    shared[name] = Programs(build, table, devices, row, None if own else described), loaded
  programs, first = shared[name]

  def values() -> Any:
    known = programs.abstract(called)
    if known is None:
      known = first.functional.without_factors().abstract(loaded.mesh)
    return loaded.values(known)

  return CompiledModel(programs, values)
