"""Starts the processes of a run on this machine, with virtual CPU devices."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 400  # for a run to end, on a busy machine


def start(
  module: str, arguments: list[str], count: int, devices: int, logs: Path
) -> list[subprocess.Popen[bytes]]:
  """Starts `python -m module` `count` times with flags that make them one run.

  Args:
    module: with cli.run as its entry.
    arguments: of each.
    count: of processes; 1 gets no flags.
    devices: of each process.
    logs: directory that receives the standard error and output of process I as I.txt.
  """
  environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
  environment |= {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": str(ROOT),
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
    "--xla_backend_optimization_level=0",
  }
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
  logs.mkdir(parents=True, exist_ok=True)
  found = []
  for index in range(count):
    flags = ["--coordinator", coordinator, "--num-processes", str(count), "--process-id"]
    command = [sys.executable, "-m", module, *arguments, *((*flags, str(index)) * (count > 1))]
    with (logs / f"{index}.txt").open("wb") as log:
      found.append(
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
      )
  return found


def finish(processes: list[subprocess.Popen[bytes]], logs: Path) -> list[int]:
  """Waits; returns the exit codes. The logs are in the message if a process does not end."""
  try:
    return [process.wait(SECONDS) for process in processes]
  except subprocess.TimeoutExpired as error:
    text = "\n".join(path.read_text()[-2000:] for path in sorted(logs.iterdir()))
    raise AssertionError(f"a process did not end:\n{text}") from error
  finally:
    for process in processes:
      process.kill()


def run(module: str, arguments: list[str], count: int, devices: int, logs: Path) -> list[str]:
  """Runs to the end, which must be good; returns what each process wrote."""
  codes = finish(start(module, arguments, count, devices, logs), logs)
  texts = [(logs / f"{index}.txt").read_text() for index in range(count)]
  assert codes == [0] * count, "\n".join(texts)
  return texts
