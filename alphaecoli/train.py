"""Trains a model: `python -m alphaecoli.train --config configs/quickstart.py`."""

from collections.abc import Sequence
from pathlib import Path

from alphaecoli import cli
from alphaecoli.config import from_arguments
from alphaecoli.errors import ConfigError
from alphaecoli.files import as_path
from alphaecoli.parallel import distributed

DESCRIPTION = """\
Processes the data if needed, trains, evaluates on validation and saves checkpoints.
The same command continues a run that was stopped.

  --config FILE               configuration; default configs/base.py
  --config.section.key=value  any value of it, such as --config.train.steps=2000
"""


def main(arguments: Sequence[str]) -> int:
  """Runs the command."""
  parser = cli.parser("train", DESCRIPTION)
  parser.epilog = cli.EXIT_STATUSES
  parser.add_argument("--workdir", type=as_path, help="default: runs/<name of the configuration>")
  parser.add_argument(
    "--test-mode", action="store_true", help="a small model and few steps: minutes on two CPU cores"
  )
  parser.add_argument(
    "--profile", metavar="START:STOP", help="trace these steps for XProf into WORKDIR/profile"
  )
  parser.add_argument("--process-data-only", action="store_true", help="stop after the track store")
  distributed.add_flags(parser)
  flags, rest = parser.parse_known_args(arguments)
  config, name = from_arguments(rest, test_mode=flags.test_mode)
  profile = profiled_steps(flags.profile, config.train.steps) if flags.profile else None
  workdir = flags.workdir or Path("runs") / (f"{name}-test-mode" if flags.test_mode else name)
  if flags.process_data_only:
    from alphaecoli.tracks.organisms import open_organisms

    with cli.reading_bar() as show:
      organisms = open_organisms(config, workdir, show)
    for store in organisms.stores:
      cli.LOGGER.info("track store: %s", store.path)
    return 0
  from alphaecoli.training.run import train

  with distributed.session(flags):
    return train(config, workdir, profile)


def profiled_steps(text: str, steps: int) -> range:
  """Reads START:STOP: the steps from START to STOP, as numbered in the log.

  Raises:
    ConfigError: anything else, or steps that the run does not have.
  """
  first, _, last = text.partition(":")
  if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= steps):
    raise ConfigError(
      f"--profile={text}; expected START:STOP, two steps from 1 to train.steps={steps} such as "
      f"{max(steps - 10, 1)}:{steps}"
    )
  return range(int(first), int(last) + 1)


if __name__ == "__main__":
  cli.run(main)
