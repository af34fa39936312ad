"""A pod: AlphaGenome's published sizes, parameters sharded over groups of four chips.

Command, on every host: python -m alphaecoli.train --config configs/pod.py --workdir WORKDIR
The work directory must be one that every host can write to. 16 TPU v5e chips hold the batch; the
command that tells for other slices, and what it told, is in docs/launch.md.
"""

from ml_collections import ConfigDict

from alphaecoli.config import base_config


def get_config() -> ConfigDict:
  config = base_config()
  config.mesh.data = -1
  config.mesh.fsdp = 4
  config.train.batch_windows = 64
  config.evaluation.batch_windows = 64
  return config
