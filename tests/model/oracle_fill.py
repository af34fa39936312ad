"""Deterministic fill of the AlphaGenome (haiku) trunk parameters.

numpy + hashlib only; independent of jax/haiku/flax.  Every tensor has its own
PCG64 stream, seeded from sha256(f"{kind}:{module_path}:{param_name}"), so any
tensor can be regenerated alone and in any order.

  kind  param_name                                   value (float64, cast to float32 last)
  ----  -------------------------------------------  -------------------------------------
  params 'w'                                         z / sqrt(prod(shape[:-1]))
  params 'scale', 'residual_scale'                   1 + 0.1 * z
  params 'b','bias','offset','embeddings',
         'q_r_bias','k_r_bias'                       0.02 * z
  state  'var_ema'                                   exp(0.3 * z)

z = numpy.random.Generator(PCG64(seed)).standard_normal(shape)   (float64, C order)
With calibrated=True (golden_calibrated.npz) the state is CALIBRATION[module] * exp(0.3 z)
instead, as in a trained network, so that activations stay of order 1 and every gelu
is exercised where it bends; params are the same in both.

Anything else raises, so that a misspelt name cannot pass silently.
"""

import hashlib
import math

import numpy as np

_SMALL = frozenset({"b", "bias", "offset", "embeddings", "q_r_bias", "k_r_bias"})
_SCALES = frozenset({"scale", "residual_scale"})


# Only for calibrated=True: measured mean square of the input of every RMSBatchNorm
# (reference, plain float32, case 0, 3 digits, earlier ones already calibrated).
CALIBRATION = {
  "output_embedder/rms_batch_norm": 34.0,
  "output_embedder_1/rms_batch_norm": 49.8,
  "sequence_decoder/up_res_block/conv_in/rms_batch_norm": 32.5,
  "sequence_decoder/up_res_block/conv_out/rms_batch_norm": 35.2,
  "sequence_decoder/up_res_block/pointwise_conv_unet_skip/rms_batch_norm": 10.8,
  "sequence_decoder/up_res_block_1/conv_in/rms_batch_norm": 35.6,
  "sequence_decoder/up_res_block_1/conv_out/rms_batch_norm": 40.2,
  "sequence_decoder/up_res_block_1/pointwise_conv_unet_skip/rms_batch_norm": 8.58,
  "sequence_decoder/up_res_block_2/conv_in/rms_batch_norm": 40.5,
  "sequence_decoder/up_res_block_2/conv_out/rms_batch_norm": 37.6,
  "sequence_decoder/up_res_block_2/pointwise_conv_unet_skip/rms_batch_norm": 6.28,
  "sequence_decoder/up_res_block_3/conv_in/rms_batch_norm": 38.1,
  "sequence_decoder/up_res_block_3/conv_out/rms_batch_norm": 40.6,
  "sequence_decoder/up_res_block_3/pointwise_conv_unet_skip/rms_batch_norm": 4.31,
  "sequence_decoder/up_res_block_4/conv_in/rms_batch_norm": 40.9,
  "sequence_decoder/up_res_block_4/conv_out/rms_batch_norm": 41.3,
  "sequence_decoder/up_res_block_4/pointwise_conv_unet_skip/rms_batch_norm": 2.71,
  "sequence_decoder/up_res_block_5/conv_in/rms_batch_norm": 41.7,
  "sequence_decoder/up_res_block_5/conv_out/rms_batch_norm": 45.6,
  "sequence_decoder/up_res_block_5/pointwise_conv_unet_skip/rms_batch_norm": 1.58,
  "sequence_decoder/up_res_block_6/conv_in/rms_batch_norm": 46.0,
  "sequence_decoder/up_res_block_6/conv_out/rms_batch_norm": 47.8,
  "sequence_decoder/up_res_block_6/pointwise_conv_unet_skip/rms_batch_norm": 0.637,
  "sequence_encoder/dna_embedder/conv_block/rms_batch_norm": 0.248,
  "sequence_encoder/downres_block_0/conv_block/rms_batch_norm": 0.646,
  "sequence_encoder/downres_block_0/conv_block_1/rms_batch_norm": 1.07,
  "sequence_encoder/downres_block_1/conv_block/rms_batch_norm": 1.97,
  "sequence_encoder/downres_block_1/conv_block_1/rms_batch_norm": 2.22,
  "sequence_encoder/downres_block_2/conv_block/rms_batch_norm": 3.75,
  "sequence_encoder/downres_block_2/conv_block_1/rms_batch_norm": 3.79,
  "sequence_encoder/downres_block_3/conv_block/rms_batch_norm": 5.93,
  "sequence_encoder/downres_block_3/conv_block_1/rms_batch_norm": 5.79,
  "sequence_encoder/downres_block_4/conv_block/rms_batch_norm": 8.33,
  "sequence_encoder/downres_block_4/conv_block_1/rms_batch_norm": 7.98,
  "sequence_encoder/downres_block_5/conv_block/rms_batch_norm": 10.9,
  "sequence_encoder/downres_block_5/conv_block_1/rms_batch_norm": 10.4,
  "transformer_tower/attention_bias_block/rms_batch_norm": 262.0,
  "transformer_tower/attention_bias_block_1/rms_batch_norm": 262.0,
  "transformer_tower/attention_bias_block_2/rms_batch_norm": 520.0,
  "transformer_tower/attention_bias_block_3/rms_batch_norm": 520.0,
  "transformer_tower/attention_bias_block_4/rms_batch_norm": 680.0,
  "transformer_tower/attention_bias_block_5/rms_batch_norm": 680.0,
  "transformer_tower/attention_bias_block_6/rms_batch_norm": 776.0,
  "transformer_tower/attention_bias_block_7/rms_batch_norm": 776.0,
  "transformer_tower/attention_bias_block_8/rms_batch_norm": 845.0,
  "transformer_tower/mha_block/rms_batch_norm": 13.2,
  "transformer_tower/mha_block/rms_batch_norm_1": 0.941,
  "transformer_tower/mha_block_1/rms_batch_norm": 15.5,
  "transformer_tower/mha_block_1/rms_batch_norm_1": 1.02,
  "transformer_tower/mha_block_2/rms_batch_norm": 18.0,
  "transformer_tower/mha_block_2/rms_batch_norm_1": 0.92,
  "transformer_tower/mha_block_3/rms_batch_norm": 19.9,
  "transformer_tower/mha_block_3/rms_batch_norm_1": 0.986,
  "transformer_tower/mha_block_4/rms_batch_norm": 22.2,
  "transformer_tower/mha_block_4/rms_batch_norm_1": 1.01,
  "transformer_tower/mha_block_5/rms_batch_norm": 24.1,
  "transformer_tower/mha_block_5/rms_batch_norm_1": 1.01,
  "transformer_tower/mha_block_6/rms_batch_norm": 26.6,
  "transformer_tower/mha_block_6/rms_batch_norm_1": 1.08,
  "transformer_tower/mha_block_7/rms_batch_norm": 28.8,
  "transformer_tower/mha_block_7/rms_batch_norm_1": 1.05,
  "transformer_tower/mha_block_8/rms_batch_norm": 31.1,
  "transformer_tower/mha_block_8/rms_batch_norm_1": 1.03,
  "transformer_tower/mlp_block/rms_batch_norm": 14.6,
  "transformer_tower/mlp_block/rms_batch_norm_1": 0.518,
  "transformer_tower/mlp_block_1/rms_batch_norm": 16.9,
  "transformer_tower/mlp_block_1/rms_batch_norm_1": 0.478,
  "transformer_tower/mlp_block_2/rms_batch_norm": 19.1,
  "transformer_tower/mlp_block_2/rms_batch_norm_1": 0.509,
  "transformer_tower/mlp_block_3/rms_batch_norm": 21.0,
  "transformer_tower/mlp_block_3/rms_batch_norm_1": 0.517,
  "transformer_tower/mlp_block_4/rms_batch_norm": 23.2,
  "transformer_tower/mlp_block_4/rms_batch_norm_1": 0.537,
  "transformer_tower/mlp_block_5/rms_batch_norm": 25.4,
  "transformer_tower/mlp_block_5/rms_batch_norm_1": 0.507,
  "transformer_tower/mlp_block_6/rms_batch_norm": 27.7,
  "transformer_tower/mlp_block_6/rms_batch_norm_1": 0.508,
  "transformer_tower/mlp_block_7/rms_batch_norm": 30.0,
  "transformer_tower/mlp_block_7/rms_batch_norm_1": 0.534,
  "transformer_tower/mlp_block_8/rms_batch_norm": 31.7,
  "transformer_tower/mlp_block_8/rms_batch_norm_1": 0.531,
}


def seed(kind, module_path, param_name):
  digest = hashlib.sha256(f"{kind}:{module_path}:{param_name}".encode()).digest()
  return int.from_bytes(digest[:8], "little")


def fill(kind, module_path, param_name, shape, calibrated=False):
  """Returns the float32 value of one tensor in haiku's own layout."""
  shape = tuple(int(n) for n in shape)
  rng = np.random.Generator(np.random.PCG64(seed(kind, module_path, param_name)))
  z = np.asarray(rng.standard_normal(shape), dtype=np.float64).reshape(shape)
  if kind == "params" and param_name == "w":
    out = z * (1.0 / math.sqrt(math.prod(shape[:-1])))
  elif kind == "params" and param_name in _SCALES:
    out = 1.0 + 0.1 * z
  elif kind == "params" and param_name in _SMALL:
    out = 0.02 * z
  elif kind == "state" and param_name == "var_ema":
    out = np.exp(0.3 * z)
    if calibrated:
      out = CALIBRATION[module_path.removeprefix("alphagenome/")] * out
  else:
    raise ValueError(f"no rule for {kind}:{module_path}:{param_name}")
  return np.asarray(out, dtype=np.float32).reshape(shape)


def fill_tree(kind, shapes, calibrated=False, threads=2):
  """{module_path: {name: shape}} -> {module_path: {name: float32 array}}."""
  from concurrent.futures import ThreadPoolExecutor  # standard_normal drops the GIL

  jobs = [(m, n, s) for m, names in shapes.items() for n, s in names.items()]
  with ThreadPoolExecutor(threads) as pool:
    values = list(pool.map(lambda j: fill(kind, *j, calibrated=calibrated), jobs))
  out = {}
  for (m, n, _), v in zip(jobs, values):
    out.setdefault(m, {})[n] = v
  return out


def fill_input(case, name, shape, scale=1.0):
  """Inputs of the single-module cases (golden_modules.npz): scale * z, float32."""
  rng = np.random.Generator(np.random.PCG64(seed("input", case, name)))
  return (scale * rng.standard_normal(tuple(shape))).astype(np.float32)
