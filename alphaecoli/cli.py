"""What every command shares: parsing, completion, one-line errors, exit codes, progress bars."""

import argparse
import contextlib
import errno
import importlib
import importlib.metadata
import io
import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
  BarColumn,
  DownloadColumn,
  MofNCompleteColumn,
  Progress,
  ProgressColumn,
  TaskProgressColumn,
  TextColumn,
  TimeRemainingColumn,
)

from alphaecoli import __version__
from alphaecoli.errors import UserError, nearest

LOGGER = logging.getLogger("alphaecoli")
NAME = "alphaecoli"  # of the console script
COMMANDS = {
  "prepare": "files of an organism to a track store",
  "verify": "checks of data, model and checkpoints",
  "train": "training",
  "crossvalidate": "training and metrics of every fold",
  "evaluate": "metrics on held-out data",
  "predict": "tracks, genes and operons of genomes",
  "score": "effects of sequence changes",
  "models": "models that ship, or are here; small folders of them",
  "plot": "picture of a region",
  "report": "HTML page about a run",
  "phases": "how predictions depend on the windows' places",
  "benchmark": "speed and memory on this machine",
}
EXIT_STATUSES = """\
exit status: 0 finished; 2 bad command line or configuration; 75 stopped by SIGTERM or SIGINT and
saved, the same command continues; 1 any other failure
"""  # of commands that train
_PARSERS: dict[str, argparse.ArgumentParser] = {}  # made so far, by command
LINE_EVERY_S = 10.0  # of progress in a log, where there is no terminal
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FREE_SPACE = "make room on that disk; a training run then goes on from its newest checkpoint"
_OUT_OF_MEMORY = (
  "out of device memory; for training raise train.accumulate_steps, set model.remat=true (on an "
  "accelerator; a CPU gains nothing from it), lower train.batch_windows or data.window_bp, or use "
  "mesh.fsdp and mesh.sequence; for prediction lower --batch-windows"
)


def console() -> None:
  """Runs a command by its name: `alphaecoli predict …` is `python -m alphaecoli.predict …`."""
  name, *rest = sys.argv[1:] or ["--help"]
  if name in ("-V", "--version"):
    print(versions())
  elif name in ("-h", "--help"):
    print(f"usage: {NAME} COMMAND …; {NAME} COMMAND --help; {NAME} --version\n")
    print("\n".join(f"  {command:<15}{what}" for command, what in COMMANDS.items()))
    print(f'\nTAB completes them after: eval "$({NAME} --completion bash)", or zsh')
  elif name == "--completion" and rest in (["bash"], ["zsh"]):
    print(completion(rest[0]))
  elif name in COMMANDS:
    sys.argv = [sys.argv[0], *rest]
    run(importlib.import_module(f"alphaecoli.{name}").main)
  elif name == "--completion":
    print("error: --completion: expected bash or zsh", file=sys.stderr)
    sys.exit(2)
  else:
    near = nearest(name, COMMANDS, 1)
    print(f"error: no command {name[:40]!r}; nearest: {near}; see {NAME} --help", file=sys.stderr)
    sys.exit(2)


def completion(shell: str) -> str:
  """Writes the script by which bash or zsh completes commands, flags, choices, keys and files.

  Nothing of this package runs when TAB is pressed. zsh reads what is written for bash.
  """
  from alphaecoli.config import key_names

  flags = {"": [*COMMANDS, "--help", "--version", "--completion"]}
  values = {"--completion --completion": ["bash", "zsh"]}
  for command in COMMANDS:
    made = _made_parser(command)
    flags[command], values[command] = [], []
    for action in made._actions:
      choices = [str(choice) for choice in action.choices or ()]
      flags[command] += action.option_strings
      if action.option_strings and choices:
        values |= {f"{command} {flag}": choices for flag in action.option_strings}
      else:
        values[command] += choices
    if "--config" in made.format_help():
      flags[command] += ["--config", *(f"--config.{key}=" for key in key_names())]
  head = "autoload -U +X compinit && compinit; autoload -U +X bashcompinit && bashcompinit\n"
  return (head if shell == "zsh" else "") + _SCRIPT % {
    "name": NAME,
    "flags": _cases({key: words for key, words in flags.items() if key}),
    "commands": " ".join(flags[""]),
    "after": _cases({key: words for key, words in values.items() if " " in key and words}),
    "free": _cases({key: words for key, words in values.items() if " " not in key and words}),
  }


_SCRIPT = """\
_%(name)s() {
  local command='' words=''
  [ "$COMP_CWORD" -gt 1 ] && command=${COMP_WORDS[1]}
  case "$command $3" in
%(after)s
  esac
  if [ -z "$words" ] && [ -z "$command" ] && [ "$COMP_CWORD" -eq 1 ]; then
    words="%(commands)s"
  fi
  case "$2" in
    -*) case "$command" in
%(flags)s
    esac;;
    *) [ -n "$words" ] || case "$command" in
%(free)s
    esac;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$2"))
  case "${COMPREPLY[*]}" in
    *=) type compopt >/dev/null 2>&1 && compopt -o nospace;;
  esac
}
complete -o default -F _%(name)s %(name)s"""


def _cases(words: Mapping[str, Sequence[str]]) -> str:
  """Formats the branches of a shell's case that set words."""
  return "\n".join(f"    '{key}') words='{' '.join(found)}';;" for key, found in words.items())


def _made_parser(command: str) -> argparse.ArgumentParser:
  """Returns the parser of a command, which it makes before it does anything else."""
  with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    importlib.import_module(f"alphaecoli.{command}").main(["--help"])
  return _PARSERS[command]


def versions() -> str:
  """Returns the versions of alphaecoli, Python and the packages whose arithmetic it uses."""
  packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
  found = {package: importlib.metadata.version(package) for package in packages}
  found = {NAME: __version__, "python": platform.python_version(), **found}
  return "\n".join(f"{package} {number}" for package, number in found.items())


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
  """Makes the argument parser of a command: whole flag names, the description as written."""
  called = os.path.basename(sys.argv[0]).removesuffix(".exe") == NAME
  made = argparse.ArgumentParser(
    prog=f"{NAME} {command}" if called else f"python -m alphaecoli.{command}",
    description=description,
    allow_abbrev=False,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  _PARSERS[command] = made
  return made


@contextlib.contextmanager
def progress_bar(total: int, done: int, active: bool = True) -> Iterator[Callable[[int], None]]:
  """Shows steps done on a terminal; elsewhere does nothing.

  Yields:
    Call it with the number of steps done.
  """
  if not active or not sys.stderr.isatty():
    yield lambda step: None
    return
  with _bar("training", MofNCompleteColumn()) as bar:
    task = bar.add_task("", total=total, completed=done)
    yield lambda step: bar.update(task, completed=step)


@contextlib.contextmanager
def reading_bar() -> Iterator[Callable[[str, int, int, int], None] | None]:
  """Shows how far a long file is read, on a terminal.

  Yields:
    Call it with the file's name, bytes read, bytes in all and documents; None where nobody watches.
  """
  if not sys.stderr.isatty():
    yield None
    return
  with _bar("reading", DownloadColumn()) as bar:
    task = bar.add_task("")

    def show(name: str, done: int, total: int, documents: int) -> None:
      bar.update(task, total=total, completed=done)

    yield show


@contextlib.contextmanager
def _bar(label: str, *columns: ProgressColumn) -> Iterator[Progress]:
  """Shows a bar on standard error; the log's lines appear above it."""
  columns = (TextColumn(label), BarColumn(), *columns, TimeRemainingColumn())
  bar = Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=2)
  with bar:  # it replaces sys.stderr, so that what is written there goes above it
    streams = [h for h in LOGGER.handlers if isinstance(h, logging.StreamHandler)]
    before = [handler.setStream(sys.stderr) for handler in streams]
    try:
      yield bar
    finally:
      for handler, stream in zip(streams, before, strict=True):
        if stream is not None:
          handler.setStream(stream)


class BaseProgress:
  """Counts bases; a context manager."""

  def __init__(self, total_bp: int, label: str):
    """Starts counting; nothing is shown before `__enter__`."""
    self.total_bp, self.done_bp, self.label = total_bp, 0, label
    self._started = self._shown = time.monotonic()
    self._first: tuple[float, int] | None = None  # when the first bases came, and how many
    self._stack = contextlib.ExitStack()
    self._bar: Progress | None = None

  def __enter__(self) -> "BaseProgress":
    self._started = self._shown = time.monotonic()
    if sys.stderr.isatty():
      rate = TextColumn("{task.fields[rate]}")
      self._bar = self._stack.enter_context(_bar(self.label, TaskProgressColumn(), rate))
      self._task = self._bar.add_task("", total=self.total_bp, rate="")
    return self

  def expect(self, more_bp: int) -> None:
    """Corrects how many bases there are in all, by this many more or less."""
    self.total_bp += more_bp
    if self._bar is not None:
      self._bar.update(self._task, total=self.total_bp)

  @property
  def rate(self) -> str:
    """Returns bases per second, in words; without the first batch, which waits for the compiler."""
    since, before = self._first or (self._started, 0)
    bases, seconds = self.done_bp - before, time.monotonic() - since
    if not bases:  # there was only one batch
      bases, seconds = self.done_bp, time.monotonic() - self._started
    return f"{bases / max(seconds, 1e-9):,.0f} bases/s"

  def __call__(self, bases: int) -> None:
    """Counts bases."""
    self.done_bp += bases
    if self._first is None:
      self._first = time.monotonic(), self.done_bp
    if self._bar is not None:
      self._bar.update(self._task, completed=self.done_bp, rate=self.rate)
    elif time.monotonic() - self._shown > LINE_EVERY_S:
      self._shown = time.monotonic()
      share = 100 * self.done_bp / max(self.total_bp, 1)
      LOGGER.info("%s: %.0f%% of %s bp, %s", self.label, share, f"{self.total_bp:,}", self.rate)

  def __exit__(self, kind: Any, *_: Any) -> None:
    self._stack.close()
    if kind is None:
      seconds = time.monotonic() - self._started
      LOGGER.info("%s: %s bp in %.1f s, %s", self.label, f"{self.done_bp:,}", seconds, self.rate)
