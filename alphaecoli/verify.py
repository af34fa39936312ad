"""Checks data, model and checkpoints before accelerator hours: `python -m alphaecoli.verify`."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alphaecoli import cli
from alphaecoli.config import base_config, from_arguments, resolve
from alphaecoli.files import as_path

if TYPE_CHECKING:
  from alphaecoli.training.checks import Check

DESCRIPTION = """\
Checks the data, the configured model and checkpoints; one line a check, exit 1 if one fails.

  --config FILE               configuration; default configs/base.py
  --config.section.key=value  any value of it
"""


def main(arguments: Sequence[str]) -> int:
  """Runs the command."""
  parser = cli.parser("verify", DESCRIPTION)
  parser.add_argument("--workdir", type=as_path, help="default: runs/<name of the configuration>")
  parser.add_argument("--test-mode", action="store_true", help="check the small model")
  parser.add_argument(
    "--steps", type=int, default=20, help="steps on one batch, to see the loss fall (%(default)s)"
  )
  flags, rest = parser.parse_known_args(arguments)
  config, name = from_arguments(rest, test_mode=flags.test_mode)
  from alphaecoli.parallel.batches import check_batch_size
  from alphaecoli.parallel.hardware import use_compilation_cache
  from alphaecoli.parallel.sharding import make_mesh
  from alphaecoli.tracks.organisms import open_organisms
  from alphaecoli.tracks.replicons import alone
  from alphaecoli.training.checks import Subject, checkpoints_intact, checks
  from alphaecoli.training.run import make_directory

  # The model as such is verified: fresh, and all of it learning.
  config = dataclasses.replace(config, init=resolve(base_config()).init)
  workdir = flags.workdir or Path("runs") / (f"{name}-test-mode" if flags.test_mode else name)
  make_directory(workdir)
  mesh = make_mesh(config.mesh)
  check_batch_size(config, mesh)
  with cli.reading_bar() as show:
    organisms = open_organisms(config, workdir, show)
  if config.log.compilation_cache:
    use_compilation_cache(workdir / "jax_cache")
  failed = _print(checkpoints_intact(workdir))
  contigs = [own for store in organisms.stores for own in store.replicons]
  for own in contigs:
    if len(contigs) > 1:
      print(f"{own.organism}, {own.contig}:", flush=True)
    subject = Subject(config, workdir, alone(own), mesh, max(flags.steps, 2))
    failed += _print(checks(subject, trains=own in organisms.stores))
  print(f"{failed} of the checks failed" if failed else "all checks passed")
  return 1 if failed else 0


def _print(found: "Iterator[Check]") -> int:
  """Prints checks as they are made; returns how many failed."""
  failed = 0
  for check in found:
    print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.details}", flush=True)
    failed += not check.ok
  return failed


if __name__ == "__main__":
  cli.run(main)
