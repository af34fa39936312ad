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


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
  """The completion of bash, as the console script prints it."""
  path = tmp_path_factory.mktemp("completion") / "script.bash"
  path.write_text(cli.completion("bash"))
  return path


def completed(script, *words) -> set[str]:
  """What bash offers for the last of the words, pressed TAB at."""
  program = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_alphaecoli alphaecoli "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""
  command = ["bash", "-uc", program, "bash", str(script), "alphaecoli", *words]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return set(done.stdout.split())


@pytest.mark.parametrize(
  ("words", "offered"),
  [
    (["p"], {"predict", "prepare", "plot", "phases"}),
    (["--v"], {"--version"}),
    (["--completion", ""], {"bash", "zsh"}),
    (["report", "--l"], {"--loci"}),
    (["report", "--workdir", "runs/a", "--sp"], {"--split"}),
    (["report", "--split", ""], {"test", "validation"}),
    (["report", "--split", "v"], {"validation"}),
    (["report", "--workdir", "r"], set()),  # a file, which bash adds
    (["models", "e"], {"export"}),
    (["benchmark", "st"], {"step"}),
    (["train", "--config.train.st"], {"--config.train.steps="}),
    (["train", "--config.optimizer.na"], {"--config.optimizer.name="}),
    (["predict", "--config.tr"], set()),  # which has no configuration
    (["nothing", "--"], set()),
  ],
  ids=lambda value: " ".join(sorted(value) if isinstance(value, set) else value),
)
def test_bash_completes_commands_flags_and_choices(script, words, offered):
  assert completed(script, *words) == offered


def test_every_flag_of_every_command_is_offered(script):
  for command in cli.COMMANDS:
    parser = cli._made_parser(command)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    assert flags <= completed(script, command, "-"), command


def test_completion_is_printed_for_bash_and_for_zsh(monkeypatch, capsys):
  assert console(monkeypatch, "--completion", "bash") == 0
  bash = capsys.readouterr().out
  assert console(monkeypatch, "--completion", "zsh") == 0
  zsh = capsys.readouterr().out
  assert zsh.endswith(bash) and "bashcompinit" in zsh.removesuffix(bash)
  assert console(monkeypatch, "--completion", "fish") == 2
  assert "expected bash or zsh" in capsys.readouterr().err
