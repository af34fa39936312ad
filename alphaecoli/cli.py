"""What every command shares: parsing, one-line errors, exit codes."""

import argparse
import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from alphaecoli.errors import UserError

LOGGER = logging.getLogger("alphaecoli")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FREE_SPACE = "make room on that disk; a training run then goes on from its newest checkpoint"
_OUT_OF_MEMORY = (
  "out of device memory; for training raise train.accumulate_steps, set model.remat=true, lower "
  "train.batch_windows or data.window_bp, or use mesh.fsdp and mesh.sequence; for prediction "
  "lower --batch-windows"
)


def run(main: Callable[[Sequence[str]], int | None]) -> None:
  """Runs a command and exits: 0 on success, 2 for a bad command line or configuration, else 1.

  An expected failure prints one line. Any other prints its traceback and leaves at once: in a run
  of several processes a normal exit would wait for the others, which wait for this one.
  """
  configure_logging()
  try:
    code = main(sys.argv[1:]) or 0
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    code = error.exit_code
  except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    code = 130
  except Exception as error:  # any fault must end the process, or its peers wait without end
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
      where = f" at {error.filename}" if error.filename else ""
      print(f"error: {error.strerror}{where}: {_FREE_SPACE}", file=sys.stderr)
    elif "RESOURCE_EXHAUSTED" in str(error):
      print(f"error: {_OUT_OF_MEMORY} ({str(error).splitlines()[0]})", file=sys.stderr)
    else:
      traceback.print_exc()
    code = 1
  sys.stdout.flush()
  sys.stderr.flush()
  logging.shutdown()
  if code:
    os._exit(code)
  sys.exit(0)


def configure_logging() -> None:
  """Sends the package's log to standard error, one line a record."""
  if LOGGER.handlers:
    return
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))
  LOGGER.addHandler(handler)
  LOGGER.setLevel(logging.INFO)
  LOGGER.propagate = False


def parser(command: str, description: str) -> argparse.ArgumentParser:
  """Makes an argument parser with the project's manners."""
  return argparse.ArgumentParser(
    prog=f"python -m alphaecoli.{command}",
    description=description,
    allow_abbrev=False,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
