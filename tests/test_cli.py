"""What every command does with success, expected failures and faults."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

import alphaecoli
from alphaecoli import cli

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


@pytest.mark.parametrize("command", cli.COMMANDS)
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


def console(monkeypatch, *arguments):
  monkeypatch.setattr(sys, "argv", ["/opt/bin/alphaecoli", *arguments])
  monkeypatch.setattr(cli, "configure_logging", lambda: None)  # its handler would outlive the test
  with pytest.raises(SystemExit) as end:
    cli.console()
    raise SystemExit(0)
  return end.value.code


def test_console_script_runs_every_command_by_its_name(monkeypatch, capsys):
  assert console(monkeypatch, "plot", "--help") == 0
  assert capsys.readouterr().out.startswith("usage: alphaecoli plot ")
  assert console(monkeypatch) == 0
  listed = capsys.readouterr().out
  assert all(f"\n  {command} " in listed for command in cli.COMMANDS)
  commands = {
    path.stem
    for path in Path(cli.__file__).parent.glob("*.py")
    if "cli.run(main)" in path.read_text()
  }
  assert commands == set(cli.COMMANDS)
  assert console(monkeypatch, "--version") == 0
  shown = dict(line.split() for line in capsys.readouterr().out.splitlines())
  assert shown["alphaecoli"] == alphaecoli.__version__ and shown["jax"] == jax.__version__
  assert console(monkeypatch, "predikt") == 2
  assert "nearest: predict" in capsys.readouterr().err
