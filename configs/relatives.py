"""What `configs/pretrained.py` starts from: the quick start's model, on two other bacteria.

Command: python -m alphaecoli.train --config configs/relatives.py --workdir runs/relatives
How the two stores are made: docs/organisms.md#pre-training-on-relatives.
"""

from ml_collections import ConfigDict

from alphaecoli.config import configs_dir, load_file


def get_config() -> ConfigDict:
  config = load_file(configs_dir() / "quickstart.py")
  config.data.stores = ("stores/klebsiella", "stores/subtilis")
  config.model.n_organisms = 2
  config.checkpoint.every_steps = 1250
  config.evaluation.every_steps = 1250
  return config
