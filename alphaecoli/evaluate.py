"""Measures a checkpoint on held-out data: `python -m alphaecoli.evaluate --help`."""

import argparse
from collections.abc import Sequence

from alphaecoli import cli
from alphaecoli.errors import ConfigError
from alphaecoli.files import as_path
from alphaecoli.parallel import distributed
from alphaecoli.tracks.splits import SPLITS, TEST

DESCRIPTION = """\
Predicts a whole split and prints its metrics beside those of baselines on the same bases.
Writes evaluation_<split>.json and evaluation_<split>_genes.tsv into the work directory, of several
organisms with their names added.
What the metrics mean: docs/evaluation.md."""


def main(arguments: Sequence[str]) -> int:
  """Runs the command."""
  options = _options(arguments)
  from alphaecoli.evaluation.run import run

  with distributed.session(options):
    return run(options)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  """Parses the command line."""
  parser = cli.parser("evaluate", DESCRIPTION)
  parser.add_argument("--workdir", required=True, type=as_path, help="directory of a training run")
  parser.add_argument("--split", choices=SPLITS, default=TEST, help="default: test")
  parser.add_argument(
    "--checkpoint", default="best", help="best (on validation), last, or a step; default: best"
  )
  parser.add_argument(
    "--batch-windows", type=int, help="windows at once; default: evaluation.batch_windows"
  )
  parser.add_argument(
    "--reverse-complement-average",
    action=argparse.BooleanOptionalAction,
    help="average the predictions of both strands; default: evaluation.both_strands of the run",
  )
  parser.add_argument(
    "--fit-gene-models",
    action="store_true",
    help="first fit the checkpoint's gene models anew, for one of an earlier version",
  )
  parser.add_argument(
    "--rivals",
    action="store_true",
    help="also measure simple rules: pip install alphaecoli[rivals]",
  )
  distributed.add_flags(parser)
  options = parser.parse_args(list(arguments))
  if options.batch_windows is not None and options.batch_windows < 1:
    raise ConfigError(f"--batch-windows={options.batch_windows}; expected at least 1")
  if options.rivals:
    from alphaecoli.evaluation.rivals import require

    require()
  return options


if __name__ == "__main__":
  cli.run(main)
