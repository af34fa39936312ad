"""Published AlphaGenome parameters in this trunk, and this trunk under the published names.

The published model names its tensors by haiku module path and name, such as
("alphagenome/sequence_encoder/downres_block_0/conv_block/standardized_conv1_d", "w"). Layouts are
the same, except that haiku keeps leading axes of size 1.

Source: the parameter tree of google-deepmind/alphagenome_research; released parameters are for
non-commercial use and are not part of this package.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Float32

from alphaecoli.errors import DataError
from alphaecoli.model.convolutions import N_DOWN_BLOCKS
from alphaecoli.model.finetuning import head_of
from alphaecoli.model.layers import RunningStat
from alphaecoli.model.model import AlphaEcoli
from alphaecoli.schema import ModelConfig

PUBLISHED = ModelConfig(
  channels=768,
  channel_step=128,
  first_conv_width=15,
  conv_width=5,
  n_layers=9,
  n_heads=8,
  key_dim=128,
  value_dim=192,
  mlp_ratio=2,
  pair_channels=128,
  pair_heads=32,
  pair_head_dim=128,
  pair_features=32,
  pair_every=2,
  n_organisms=2,
  batch_norm_decay=0.9,
  head_dropout=0.0,
  head_dropout_of="base",
  compute_dtype="float32",
  remat=False,
  remat_policy="blocks",
)

TERMS = "https://deepmind.google.com/science/alphagenome/model-terms"
ROOT = "alphagenome"
PUBLISHED_HEADS = f"{ROOT}/head/"  # the published model's own heads, which have no place here

Path = tuple[str | int, ...]
Tree = Mapping[str, Mapping[str, Any]]
Names = dict[Path, tuple[str, str]]

# Names inside each kind of module: ours -> (haiku submodule, haiku name).
_LINEAR = {"kernel": ("", "w"), "bias": ("", "b")}
_PLAIN = {"kernel": ("", "w")}
_STANDARDIZED = {"kernel": ("", "w"), "scale": ("", "scale"), "bias": ("", "bias")}
_LAYER_NORM = {"scale": ("", "scale"), "offset": ("", "offset")}
_BATCH_NORM = {**_LAYER_NORM, "mean_square": ("", "var_ema")}
_EMBED = {"table": ("", "embeddings")}


def _numbered(name: str, index: int) -> str:
  """Returns haiku's name of one of the modules of one class: name, name_1, name_2."""
  return name if index == 0 else f"{name}_{index}"


def _under(path: Path, module: str, inner: Mapping[Any, tuple[str, str]]) -> Names:
  """Moves names of a module below a path of ours and a haiku module."""
  return {
    (*path, *(key if isinstance(key, tuple) else (key,))): (f"{module}/{sub}".rstrip("/"), name)
    for key, (sub, name) in inner.items()
  }


def standardized_conv_names() -> Names:
  """Returns the names of a StandardizedConv, relative to it."""
  return _under((), "", _STANDARDIZED)


def conv_block_names(width: int) -> Names:
  """Returns the names of a ConvBlock, relative to it."""
  conv = ("linear", _LINEAR) if width == 1 else ("standardized_conv1_d", _STANDARDIZED)
  return _under(("norm",), "rms_batch_norm", _BATCH_NORM) | _under(("conv",), *conv)


def down_block_names(width: int) -> Names:
  """Returns the names of a DownBlock, relative to it."""
  inner = conv_block_names(width)
  return _under(("first",), "conv_block", inner) | _under(("second",), "conv_block_1", inner)


def up_block_names(width: int) -> Names:
  """Returns the names of an UpBlock, relative to it."""
  return (
    {("residual_scale",): ("", "residual_scale")}
    | _under(("conv_in",), "conv_in", conv_block_names(width))
    | _under(("skip",), "pointwise_conv_unet_skip", conv_block_names(1))
    | _under(("conv_out",), "conv_out", conv_block_names(width))
  )


def attention_names() -> Names:
  """Returns the names of a MultiQueryAttention, relative to it."""
  return (
    _under(("norm_in",), "rms_batch_norm", _BATCH_NORM)
    | _under(("query",), "q_layer", _PLAIN)
    | _under(("key",), "k_layer", _PLAIN)
    | _under(("value",), "v_layer", _PLAIN)
    | _under(("norm_query",), "norm_q", _LAYER_NORM)
    | _under(("norm_key",), "norm_k", _LAYER_NORM)
    | _under(("norm_value",), "norm_v", _LAYER_NORM)
    | _under(("output",), "linear_embedding", _LINEAR)
    | _under(("norm_out",), "rms_batch_norm_1", _BATCH_NORM)
  )


def mlp_names() -> Names:
  """Returns the names of an MLP, relative to it."""
  return (
    _under(("norm_in",), "rms_batch_norm", _BATCH_NORM)
    | _under(("expand",), "linear", _LINEAR)
    | _under(("contract",), "linear_1", _LINEAR)
    | _under(("norm_out",), "rms_batch_norm_1", _BATCH_NORM)
  )


def attention_bias_names() -> Names:
  """Returns the names of an AttentionBias, relative to it."""
  return _under(("norm",), "rms_batch_norm", _BATCH_NORM) | _under(("linear",), "linear", _PLAIN)


def sequence_to_pair_names() -> Names:
  """Returns the names of a SequenceToPair, relative to it."""
  return (
    {("query_bias",): ("", "q_r_bias"), ("key_bias",): ("", "k_r_bias")}
    | _under(("norm",), "norm_seq2pair", _LAYER_NORM)
    | _under(("query",), "linear_q", _PLAIN)
    | _under(("key",), "linear_k", _PLAIN)
    | _under(("position",), "linear_pos_features", _LINEAR)
    | _under(("row",), "linear_y_q", _PLAIN)
    | _under(("column",), "linear_y_k", _PLAIN)
    | _under(("output",), "linear_pair", _LINEAR)
  )


def row_attention_names() -> Names:
  """Returns the names of a RowAttention, relative to it."""
  return (
    _under(("norm",), "layer_norm", _LAYER_NORM)
    | _under(("query",), "linear_q", _PLAIN)
    | _under(("key",), "linear_k", _PLAIN)
    | _under(("value",), "linear_v", _LINEAR)
  )


def pair_mlp_names() -> Names:
  """Returns the names of a PairMLP, relative to it."""
  return (
    _under(("norm",), "layer_norm", _LAYER_NORM)
    | _under(("expand",), "linear", _LINEAR)
    | _under(("contract",), "linear_1", _LINEAR)
  )


def pair_update_names() -> Names:
  """Returns the names of a PairUpdate, relative to it."""
  return (
    _under(("from_sequence",), "sequence_to_pair_block", sequence_to_pair_names())
    | _under(("attention",), "row_attention_block", row_attention_names())
    | _under(("mlp",), "pair_mlp_block", pair_mlp_names())
  )


def output_embedder_names(skip: bool) -> Names:
  """Returns the names of an OutputEmbedder, relative to it."""
  names = (
    _under(("linear",), "linear", _LINEAR)
    | _under(("norm",), "rms_batch_norm", _BATCH_NORM)
    | _under(("organism",), "embed", _EMBED)
  )
  return names | (_under(("skip",), "linear_1", _PLAIN) if skip else {})


def output_pair_names() -> Names:
  """Returns the names of an OutputPair, relative to it."""
  return _under(("norm",), "layer_norm", _LAYER_NORM) | _under(("organism",), "embed", _EMBED)


def trunk_names(config: ModelConfig) -> Names:
  """Returns the published module path and name of every variable of the trunk."""
  encoder, tower = f"{ROOT}/sequence_encoder", f"{ROOT}/transformer_tower"
  width = config.conv_width
  names = _under(("encoder", "dna_embedder", "conv"), f"{encoder}/dna_embedder/conv1_d", _LINEAR)
  names |= _under(
    ("encoder", "dna_embedder", "block"),
    f"{encoder}/dna_embedder/conv_block",
    conv_block_names(width),
  )
  for i in range(N_DOWN_BLOCKS):
    path: Path = ("encoder", "down_blocks", i)
    names |= _under(path, f"{encoder}/downres_block_{i}", down_block_names(width))
  names |= _under(("organism",), f"{ROOT}/embed", _EMBED)
  for i in range(config.n_layers):
    path = ("tower", "layers", i)
    for part, module, inner in (
      ("bias", "attention_bias_block", attention_bias_names()),
      ("attention", "mha_block", attention_names()),
      ("mlp", "mlp_block", mlp_names()),
    ):
      names |= _under((*path, part), f"{tower}/{_numbered(module, i)}", inner)
    if i % config.pair_every == 0:
      module = f"{tower}/{_numbered('pair_update_block', i // config.pair_every)}"
      names |= _under((*path, "pair_update"), module, pair_update_names())
  for i in range(N_DOWN_BLOCKS + 1):
    module = f"{ROOT}/sequence_decoder/{_numbered('up_res_block', i)}"
    names |= _under(("decoder", "up_blocks", i), module, up_block_names(width))
  names |= _under(("embed_bins",), f"{ROOT}/output_embedder", output_embedder_names(False))
  names |= _under(("embed_one_bp",), f"{ROOT}/output_embedder_1", output_embedder_names(True))
  return names | _under(("embed_pair",), f"{ROOT}/output_pair", output_pair_names())


def trunk_variables(model: AlphaEcoli) -> dict[Path, nnx.Variable]:
  """Returns the trunk's parameters and running statistics by path; the model may be abstract."""
  state = nnx.state(model, nnx.Any(nnx.Param, RunningStat))
  flat = nnx.to_flat_state(state)
  return {path: variable for path, variable in flat if head_of(str(path[0])) is None}


def _tensors(*trees: Tree) -> Iterator[tuple[tuple[str, str], Any]]:
  """Yields all tensors of the trees but those of the published heads."""
  for tree in trees:
    for module, tensors in tree.items():
      if not module.startswith(PUBLISHED_HEADS):
        for name, value in tensors.items():
          yield (module, name), value


def convert(
  params: Tree, state: Tree, model: AlphaEcoli, config: ModelConfig
) -> dict[Path, Float32[np.ndarray, "..."]]:
  """Converts published tensors to values of this trunk's variables.

  Args:
    params: {module path: {name: array}} of the published parameters; heads are skipped.
    state: published running statistics, in the same form.
    model: model whose variables give the shapes; may be abstract.
    config: sizes of the model.

  Returns:
    A value for every parameter and running statistic of the trunk, by path.

  Raises:
    DataError: tensors are missing, left over or of another shape.
  """
  names, given = trunk_names(config), dict(_tensors(params, state))
  values, problems = {}, []
  for path, variable in trunk_variables(model).items():
    module, name = names[path]
    value = given.pop((module, name), None)
    if value is None:
      problems.append(f"{module}:{name} is missing")
    elif _without_leading_ones(value.shape) != _without_leading_ones(variable.shape):
      problems.append(f"{module}:{name} is {tuple(value.shape)}, expected {variable.shape}")
    else:
      values[path] = np.asarray(value, np.float32).reshape(variable.shape)
  problems += [f"{module}:{name} has no place in this model" for module, name in given]
  if problems:
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    raise DataError(
      f"published parameters do not fit the model: {'; '.join(problems[:3])}{more}; "
      "configs/base.py has the published sizes"
    )
  return values


def _without_leading_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
  """Drops the axes of size 1 that haiku keeps in front for broadcasting."""
  shape = tuple(shape)
  while shape and shape[0] == 1:
    shape = shape[1:]
  return shape
