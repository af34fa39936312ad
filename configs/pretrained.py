"""The quick start's recipe, from a model of other bacteria.

Command: python -m alphaecoli.crossvalidate --config configs/pretrained.py --workdir W --rivals
It starts from runs/relatives, which `configs/relatives.py` makes.
"""

from ml_collections import ConfigDict

from alphaecoli.config import configs_dir, load_file


def get_config() -> ConfigDict:
  config = load_file(configs_dir() / "quickstart.py")
  config.init.checkpoint = "runs/relatives"
  config.loss.structure_first_steps = 0  # the reading frame is known
  config.checkpoint.every_steps = 625
  config.evaluation.every_steps = 1250
  return config
