"""RegulonDB on one large accelerator: 98,304 bp windows, a trunk of about a fifth of AlphaGenome's.

Command: python -m alphaecoli.train --config configs/regulondb.py --workdir runs/regulondb \
           --config.data.dump=DUMP --config.data.genome=FASTA
One TPU v5e chip (16 GB) holds the batch: docs/launch.md.
"""

from ml_collections import ConfigDict

from alphaecoli.config import base_config


def get_config() -> ConfigDict:
  config = base_config()
  config.model.channels = 256
  config.model.channel_step = 64
  config.model.n_layers = 6
  config.model.value_dim = 128
  config.model.pair_channels = 64
  config.model.pair_heads = 8
  config.model.head_dropout = 0.1
  config.train.steps = 4_000
  config.train.batch_windows = 16
  config.optimizer.warmup_steps = 200
  config.checkpoint.every_steps = 500
  config.evaluation.every_steps = 500
  config.evaluation.batch_windows = 16
  return config
