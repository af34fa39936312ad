"""Trains and measures every fold: `python -m alphaecoli.crossvalidate --help`."""

from collections.abc import Sequence

from alphaecoli import cli
from alphaecoli.config import from_arguments
from alphaecoli.errors import ConfigError
from alphaecoli.files import AnyPath, as_path
from alphaecoli.parallel import distributed
from alphaecoli.schema import Config
from alphaecoli.tracks.splits import TEST, VALIDATION

DESCRIPTION = """\
Trains every fold of a configuration, in turn, into WORKDIR/fold_0, fold_1 and so on, measures each
on its held-out split, and writes means and standard deviations over the folds that are done,
predictions for the whole chromosome by models that have not seen it, and an ensemble of the folds,
ensemble.json: alphaecoli.predict and alphaecoli.score take WORKDIR as their --checkpoint.
The same command continues; a fold that is finished is not trained again.

  --config FILE               configuration; default configs/base.py
  --config.section.key=value  any value of it, such as --config.train.steps=2000

What is written: docs/evaluation.md."""


def main(arguments: Sequence[str]) -> int:
  """Runs the command."""
  parser = cli.parser("crossvalidate", DESCRIPTION)
  parser.epilog = cli.EXIT_STATUSES
  parser.add_argument("--workdir", required=True, type=as_path, help="receiver of all folds")
  parser.add_argument(
    "--folds", metavar="K,K", help="train and measure these alone, such as 0,1,2; default: all"
  )
  parser.add_argument("--split", choices=(TEST, VALIDATION), default=TEST, help="default: test")
  parser.add_argument(
    "--rivals",
    action="store_true",
    help="also measure simple rules: pip install alphaecoli[rivals]",
  )
  distributed.add_flags(parser)
  flags, rest = parser.parse_known_args(arguments)
  config, _ = from_arguments(rest)
  if config.data.stores:
    from alphaecoli.evaluation.folds import divided_as_prepared

    config = divided_as_prepared(config)
  folds = parse_folds(flags.folds, config.data.n_folds)
  if flags.rivals:
    from alphaecoli.evaluation.rivals import require

    require()
  with distributed.session(flags):
    return crossvalidate(config, flags.workdir, folds, flags.split, flags.rivals)


def crossvalidate(
  config: Config, workdir: AnyPath, folds: Sequence[int], split: str, rivals: bool
) -> int:
  """Trains and measures folds, then gathers all that are done; every process calls this.

  Returns:
    The exit status: 0, or that of the first fold that was stopped.

  Raises:
    UserError: see the message.
  """
  import jax

  from alphaecoli.checkpoints.write import write_ensemble
  from alphaecoli.evaluation.folds import (
    evaluate_fold,
    fold_config,
    fold_folder,
    gather,
    write_fold,
  )
  from alphaecoli.training.resume import is_finished
  from alphaecoli.training.run import train

  for fold in folds:
    of_fold, folder = fold_config(config, workdir, fold), fold_folder(workdir, fold)
    if is_finished(folder, of_fold):
      cli.LOGGER.info("fold %d: trained before, %s", fold, folder)
    else:
      cli.LOGGER.info("fold %d of %d: %s", fold, config.data.n_folds, folder)
      write_fold(config, workdir, fold)
      if status := train(of_fold, folder):
        return status
    evaluate_fold(folder, split, rivals)
  if jax.process_index() == 0:
    print(gather(workdir, config.data, split).table())
    numbers = range(config.data.n_folds)
    trained = {fold_folder(workdir, k): fold_config(config, workdir, k) for k in numbers}
    done = [folder for folder, of_fold in trained.items() if is_finished(folder, of_fold)]
    if len(done) > 1:
      write_ensemble(workdir, done)
      cli.LOGGER.info("an ensemble of %d folds for predict and score: %s", len(done), workdir)
  return 0


def parse_folds(text: str | None, n_folds: int) -> Sequence[int]:
  """Reads numbers of folds, such as 0,1,2; all of them where none is given.

  Raises:
    ConfigError: anything else, or a fold that there is not.
  """
  if text is None:
    return range(n_folds)
  parts = text.split(",")
  if not all(part.isdecimal() and int(part) < n_folds for part in parts):
    raise ConfigError(f"--folds={text}; expected numbers from 0 to {n_folds - 1}, such as 0,1,2")
  return sorted({int(part) for part in parts})


if __name__ == "__main__":
  cli.run(main)
