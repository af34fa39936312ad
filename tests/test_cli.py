"""What every command does with success, expected failures and faults."""

import subprocess
import sys

import pytest

COMMANDS = (
  *("benchmark", "crossvalidate", "evaluate", "phases", "plot", "predict", "report"),
  *("score", "train", "verify"),
)
PROGRAM = """
from alphaecoli import cli
from alphaecoli.errors import ConfigError, DataError

def main(arguments):
  {body}

cli.run(main)
"""


@pytest.mark.parametrize(
  ("body", "code", "lines", "text"),
  [
    ("return 0", 0, 0, ""),
    ("return 75", 75, 0, ""),
    ("raise DataError('x.bson: truncated at byte 12')", 1, 1, "error: x.bson: truncated"),
    ("raise ConfigError('unknown key')", 2, 1, "error: unknown key"),
    ("raise RuntimeError('RESOURCE_EXHAUSTED: 7 bytes')", 1, 1, "train.accumulate_steps"),
    ("raise OSError(28, 'No space left on device', 'a.json')", 1, 1, "at a.json: make room"),
    ("raise KeyboardInterrupt", 130, 1, "interrupted"),
    ("raise RuntimeError('a bug')", 1, None, "Traceback"),
  ],
)
def test_exit_status_and_message(body, code, lines, text):
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, text=True, check=False
  )
  assert done.returncode == code
  assert text in done.stderr
  if lines is not None:
    assert len(done.stderr.splitlines()) == lines


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_that_computes(command):
  code = f"""
import sys
from alphaecoli import {command}
try:
  {command}.main(["--help"])
except SystemExit as done:
  assert not done.code
heavy = {{"jax", "flax", "scipy", "sklearn", "pandas", "pyBigWig", "bson"}}
print(sorted(heavy & set(sys.modules)))
"""
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.splitlines()[-1] == "[]"
