"""Two CPU cores, minutes: a small trunk on the embedded E. coli K-12 data set.

Command: bash launch/quickstart.sh
     or: python -m alphaecoli.train --config configs/quickstart.py --workdir runs/quickstart
"""

from ml_collections import ConfigDict

from alphaecoli.config import base_config


def get_config() -> ConfigDict:
  config = base_config()
  config.data.window_bp = 16_384
  config.model.channels = 48
  config.model.channel_step = 16
  config.model.n_layers = 4
  config.model.n_heads = 4
  config.model.key_dim = 32
  config.model.value_dim = 32
  config.model.pair_channels = 16
  config.model.pair_heads = 4
  config.model.pair_head_dim = 16
  config.model.head_dropout = 0.3
  config.model.compute_dtype = "float32"  # CPUs gain nothing from bfloat16
  config.model.remat = False
  config.train.steps = 1250
  config.train.batch_windows = 2
  config.optimizer.name = "muon"
  config.optimizer.learning_rate = 1.5e-3
  config.optimizer.muon_rms = 0.5
  config.optimizer.warmup_steps = 60
  config.optimizer.weight_decay = 0.3
  config.loss.structure_first_steps = 400
  config.loss.weights.gene_expression = 3.0
  config.loss.weights.gene_density = 10.0  # a small error that learns slowest
  config.loss.weights.operon_membership = 0.5
  config.loss.weights.gene_structure = 5.5  # once the reading frame is found, the rest follows
  config.checkpoint.every_steps = 250
  config.evaluation.every_steps = 250
  config.evaluation.batch_windows = 4
  config.evaluation.both_strands = True
  return config
