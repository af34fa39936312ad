"""The configuration's names, types and ranges. Values live in `configs/base.py`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from alphaecoli.errors import ConfigError, at_least, fractions, one_of

BIN_BP = 128
PAIR_BP = 2048
BINS_PER_PAIR = PAIR_BP // BIN_BP
MIN_PREVALENCE = 1e-4  # shares of positives are kept this far off 0 and 1: log odds stay finite


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
  """One output of the model; `HEADS` is the one table of them.

  Attributes:
    name: key of its outputs, of its targets in a batch, and of its loss weight.
    resolution_bp: bases that one value stands for, 1 or 128: which embedding it reads.
    loss: "squared_error", or "cross_entropy" from logits.
    loss_words: what the loss measures, with its unit.
    baseline: what its metrics are compared with.
    channels: values at each position; 0 for one per expression track.
    weight: weight of its loss in the total, unless a configuration sets another.
    output: what turns raw outputs into what users get: "identity" or "sigmoid".
    units: unit of what users get; "" where the user chooses it.
    auxiliary: whether it is there to help the others, and is no track of its own.
    late: whether its few labels wait for genes to be found: `loss.structure_first_steps`.
    channel_weights: weight of each channel in the loss, 1 on average; empty where all are alike.
    swap: source of each channel on the other strand; empty where strands have no channels of
      their own, or the track table has the order.
    module: "module:Class" of the layer, built as Class(features, table, rngs=rngs).
  """

  name: str
  resolution_bp: int
  loss: str
  loss_words: str
  baseline: str
  channels: int = 1
  weight: float = 1.0
  output: str = "identity"
  units: str = ""
  auxiliary: bool = False
  late: bool = False
  channel_weights: tuple[float, ...] = ()
  swap: tuple[int, ...] = ()
  module: str = ""

  @property
  def title(self) -> str:
    """Returns the name in words."""
    return self.name.replace("_", " ")


_MSE, _BCE, _NATS, _P = "squared_error", "cross_entropy", "cross-entropy (nats)", "probability"
_STRAND = (4 / 11, 4 / 11, 4 / 11, 32 / 11)  # rare RNA genes weigh 8 times a codon position
_HEADS = (
  Head("gene_expression", 1, _MSE, "mean squared error (z²)", "training mean (z = 0)", channels=0,
       late=True),
  Head("gene_density", BIN_BP, _MSE, "mean squared error (genes²)", "training mean",
       units="genes per 128 bp"),
  Head("operon_membership", 1, _BCE, _NATS, "training prevalence", output="sigmoid", units=_P,
       late=True),
  Head("gene_structure", 1, _BCE, _NATS, "probability 0.5", channels=8, output="sigmoid", units=_P,
       weight=2.75, auxiliary=True, channel_weights=2 * _STRAND, swap=(4, 5, 6, 7, 0, 1, 2, 3)),
  Head("operon_junction", 1, _BCE, _NATS, "probability 0.5", channels=2, output="sigmoid", units=_P,
       auxiliary=True, late=True, swap=(1, 0)),
)  # fmt: skip
HEADS: Mapping[str, Head] = {head.name: head for head in _HEADS}
LATE_FACTOR = 0.1  # of the weight of late heads in the first steps
ALL_OPERONS, OUTSIDE, UNKNOWN = "all", "outside", "unknown"  # operon_evidence, unlisted_genes
# What stores and configurations without these keys of `data`, which came later, were made with.
DATA_BEFORE: Mapping[str, Any] = {"unknown_expression_types": (), "operon_evidence": ALL_OPERONS,
                                  "unlisted_genes": OUTSIDE, "block_offset": 0.0}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class DataConfig:
  """What is read and how it becomes tracks and windows. Units and meaning: configs/base.py."""

  dump: str
  genome: str
  stores: tuple[str, ...]
  store_weights: tuple[float, ...]
  circular: bool
  window_bp: int
  max_docs_per_file: int
  n_blocks: int
  n_folds: int
  fold: int
  block_offset: float
  exclude_gene_types: tuple[str, ...]
  unknown_expression_types: tuple[str, ...]
  min_operon_genes: int
  operon_evidence: str
  unlisted_genes: str
  min_genes_per_unit: int
  max_tpm_sum: float
  expression_tracks: str
  expression_groups: dict[str, tuple[str, ...]]
  stranded: bool
  store_dir: str
  reverse_complement: float
  read_threads: int
  prefetch: int

  def __post_init__(self):
    if self.window_bp < PAIR_BP or self.window_bp % PAIR_BP:
      lower = max(self.window_bp // PAIR_BP, 1) * PAIR_BP
      raise ConfigError(
        f"data.window_bp={self.window_bp} is not a multiple of {PAIR_BP}; "
        f"nearest: {lower} or {lower + PAIR_BP}"
      )
    at_least("data", self, max_docs_per_file=0, n_folds=3, n_blocks=3, min_operon_genes=1)
    at_least("data", self, min_genes_per_unit=1, read_threads=0, prefetch=1, max_tpm_sum=1e6)
    if self.store_weights and len(self.store_weights) != len(self.stores):
      raise ConfigError(
        f"data.store_weights has {len(self.store_weights)} values for {len(self.stores)} "
        "data.stores; give one each, or none for equal shares"
      )
    if not all(0 < weight < math.inf for weight in self.store_weights):
      raise ConfigError(f"data.store_weights={self.store_weights}; expected values above 0")
    if self.n_blocks < self.n_folds:
      raise ConfigError(f"data.n_blocks={self.n_blocks} is less than data.n_folds={self.n_folds}")
    if not 0 <= self.fold < self.n_folds:
      raise ConfigError(f"data.fold={self.fold} is not between 0 and {self.n_folds - 1}")
    if not 0 <= self.reverse_complement <= 1:
      raise ConfigError(f"data.reverse_complement={self.reverse_complement}; expected 0 to 1")
    fractions("data", self, "block_offset")
    one_of("data", self, operon_evidence=(ALL_OPERONS, "experimental"))
    one_of("data", self, unlisted_genes=(OUTSIDE, UNKNOWN))
    if self.expression_tracks.split(":")[0] not in ("mean", "dataset", "group"):
      raise ConfigError(
        f"data.expression_tracks={self.expression_tracks!r}; expected mean, dataset or "
        "group:<condition field>"
      )


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig:
  """Sizes of the model. Meaning: configs/base.py."""

  channels: int
  channel_step: int
  first_conv_width: int
  conv_width: int
  n_layers: int
  n_heads: int
  key_dim: int
  value_dim: int
  mlp_ratio: int
  pair_channels: int
  pair_heads: int
  pair_head_dim: int
  pair_features: int
  pair_every: int
  n_organisms: int
  batch_norm_decay: float
  head_dropout: float
  head_dropout_of: str
  compute_dtype: str
  remat: bool
  remat_policy: str

  def __post_init__(self):
    at_least("model", self, channels=1, channel_step=0, first_conv_width=1, conv_width=1)
    at_least("model", self, n_layers=0, n_heads=1, key_dim=2, value_dim=1, mlp_ratio=1)
    at_least("model", self, pair_channels=1, pair_heads=1, pair_head_dim=1, pair_every=1)
    at_least("model", self, n_organisms=1, pair_features=1)
    if self.key_dim % 2:
      raise ConfigError(f"model.key_dim={self.key_dim} is odd; rotary positions need pairs")
    one_of("model", self, compute_dtype=("float32", "bfloat16"), head_dropout_of=("base", "window"))
    one_of("model", self, remat_policy=("blocks", "products", "auto"))
    fractions("model", self, "head_dropout", "batch_norm_decay")

  @property
  def recomputed(self) -> str:
    """Returns what the backward pass computes anew, as `remat_policy` has it; "" for nothing."""
    return self.remat_policy if self.remat else ""


@dataclasses.dataclass(frozen=True, slots=True)
class TrainConfig:
  """Length and size of a run."""

  steps: int
  batch_windows: int
  accumulate_steps: int
  seed: int
  ema_decay: float

  def __post_init__(self):
    at_least("train", self, steps=1, batch_windows=1, accumulate_steps=1, seed=0)
    if self.batch_windows % self.accumulate_steps:
      raise ConfigError(
        f"train.batch_windows={self.batch_windows} is not a multiple of "
        f"train.accumulate_steps={self.accumulate_steps}"
      )
    fractions("train", self, "ema_decay")


@dataclasses.dataclass(frozen=True, slots=True)
class OptimizerConfig:
  """AdamW or Muon with linear warm-up and cosine decay."""

  name: str
  learning_rate: float
  warmup_steps: int
  final_fraction: float
  weight_decay: float
  beta1: float
  beta2: float
  muon_rms: float
  clip_norm: float

  def __post_init__(self):
    at_least("optimizer", self, warmup_steps=0, weight_decay=0)
    one_of("optimizer", self, name=("adamw", "muon"))
    if min(self.learning_rate, self.clip_norm, self.muon_rms) <= 0:
      raise ConfigError("optimizer.learning_rate, clip_norm and muon_rms must be above 0")


@dataclasses.dataclass(frozen=True, slots=True)
class InitConfig:
  """Where a run starts from, and which parts of the model learn."""

  checkpoint: str
  allow_seen: bool
  freeze: str
  lora_rank: int
  lora_alpha: float

  def __post_init__(self):
    at_least("init", self, lora_rank=0)
    if self.lora_alpha <= 0:
      raise ConfigError(f"init.lora_alpha={self.lora_alpha}; expected more than 0")
    if self.lora_rank and not self.frozen_parts:
      raise ConfigError(
        f"init.lora_rank={self.lora_rank} and init.freeze is empty: low-rank factors stand beside "
        "frozen kernels; add --config.init.freeze=trunk"
      )

  @property
  def frozen_parts(self) -> tuple[str, ...]:
    """Lists the parts of `freeze`."""
    return tuple(part.strip() for part in self.freeze.split(",") if part.strip())


def weights_of(heads: Mapping[str, Head]) -> Any:
  """Makes the class that holds the loss weight of each head; 0, the default, switches it off."""

  def check(self: Any) -> None:
    at_least("loss.weights", self, **dict.fromkeys(heads, 0))
    if not any(dataclasses.astuple(self)):
      raise ConfigError("loss.weights are all 0: there is nothing to train")

  names = {"__post_init__": check, "__module__": __name__, "__doc__": "Weight of each head's loss."}
  fields = [(name, float, 0.0) for name in heads]
  return dataclasses.make_dataclass("LossWeights", fields, namespace=names, frozen=True, slots=True)


LossWeights = weights_of(HEADS)


@dataclasses.dataclass(frozen=True, slots=True)
class LossConfig:
  """The losses."""

  weights: LossWeights
  expression_weighting: str
  structure_first_steps: int

  def __post_init__(self):
    at_least("loss", self, structure_first_steps=0)
    one_of("loss", self, expression_weighting=("gene", "base"))


@dataclasses.dataclass(frozen=True, slots=True)
class MeshConfig:
  """Devices = data x fsdp x sequence; -1 takes what is left."""

  data: int
  fsdp: int
  sequence: int

  def __post_init__(self):
    for name, size in dataclasses.asdict(self).items():
      if size < 1 and size != -1:
        raise ConfigError(f"mesh.{name}={size}; expected a number of devices, or -1 for the rest")


@dataclasses.dataclass(frozen=True, slots=True)
class CheckpointConfig:
  """When checkpoints are written and which stay."""

  every_steps: int
  keep_last: int
  keep_best: int

  def __post_init__(self):
    at_least("checkpoint", self, every_steps=1, keep_last=1, keep_best=0)


@dataclasses.dataclass(frozen=True, slots=True)
class EvaluationConfig:
  """When and how the validation split is measured."""

  every_steps: int
  batch_windows: int
  both_strands: bool

  def __post_init__(self):
    at_least("evaluation", self, every_steps=1, batch_windows=1)


@dataclasses.dataclass(frozen=True, slots=True)
class LogConfig:
  """What a run writes about itself."""

  every_steps: int
  tensorboard: bool
  wandb: str
  compilation_cache: bool

  def __post_init__(self):
    at_least("log", self, every_steps=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
  """A whole run. Built by `resolve`; `to_dict` and `resolve` are inverses."""

  data: DataConfig
  model: ModelConfig
  train: TrainConfig
  init: InitConfig
  optimizer: OptimizerConfig
  loss: LossConfig
  mesh: MeshConfig
  checkpoint: CheckpointConfig
  evaluation: EvaluationConfig
  log: LogConfig

  def to_dict(self) -> dict[str, Any]:
    """Converts to plain values, for JSON."""
    return dataclasses.asdict(self)
