"""One process of a training run of a stand-in model: the whole path of the train command but flags.

Arguments: --workdir, --mesh DATA,FSDP,SEQUENCE, --dump (of tests.toy), --genome, --steps, and those
of `alphaecoli.distributed`. --slow makes every step, and every batch of an evaluation, take that
many seconds; with --blind, process 1 can not read the arrays of that checkpoint; --full-from is a
step: once checkpoint 2 is there as well, no file may grow beyond 2,500 bytes.
"""

import resource
import time
from collections.abc import Sequence
from pathlib import Path

from alphaecoli import cli
from alphaecoli.checkpoints.write import one_first
from alphaecoli.parallel import distributed


def main(arguments: Sequence[str]) -> int:
  parser = cli.parser("distributed_run", "")
  for name in ("--workdir", "--dump", "--genome", "--mesh"):
    parser.add_argument(name, required=True)
  parser.add_argument("--steps", type=int, default=4)
  parser.add_argument("--slow", type=float, default=0.0)
  parser.add_argument("--blind", type=int, metavar="STEP")
  parser.add_argument("--log-every", type=int, default=1)
  parser.add_argument("--full-from", type=int)
  distributed.add_flags(parser)
  flags = parser.parse_args(arguments)
  with distributed.session(flags):
    from alphaecoli.checkpoints import write as checkpoints
    from alphaecoli.tracks.process import process_data
    from alphaecoli.training import loop
    from alphaecoli.training.run import train_on
    from tests.training.small import stand_in, tiny_config, with_mesh

    add = loop.Watch.add

    def slow_add(self, step, metrics):
      time.sleep(flags.slow)
      if step == flags.full_from:
        while not (Path(flags.workdir) / "checkpoints" / "2").exists():
          time.sleep(0.01)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2500, resource.RLIM_INFINITY))
      add(self, step, metrics)

    loop.Watch.add = slow_add
    read = checkpoints.read_item

    def read_some(path, abstract):
      if flags.process_id == 1 and str(flags.blind) in Path(path).parts:
        raise OSError(f"cannot read {path}")
      return read(path, abstract)

    checkpoints.read_item = read_some
    until_stopped = loop.Loop._until_stopped

    def slow_batches(self, batches):
      for batch in until_stopped(self, batches):
        time.sleep(flags.slow)
        yield batch

    loop.Loop._until_stopped = slow_batches
    config = tiny_config(
      data__dump=flags.dump,
      data__genome=flags.genome,
      data__min_genes_per_unit=1,
      train__steps=flags.steps,
      train__ema_decay=0.5,  # whatever is the same over processes and restarts, averages are too
      checkpoint__every_steps=2,
      log__every_steps=flags.log_every,
      evaluation__batch_windows=2,
    )
    workdir = Path(flags.workdir)
    config = with_mesh(config, *map(int, flags.mesh.split(",")))
    store = one_first("track store", lambda: process_data(config, workdir))
    return train_on(store, config, workdir, stand_in())


if __name__ == "__main__":
  cli.run(main)
