"""Several processes as one run: how they find each other, agree, and end together.

One process an accelerator host (TPU) or a GPU, all running the same command. They are told of each
other by flags, or by SLURM, Open MPI, a Cloud TPU VM, GKE or an indexed Kubernetes job, whose
environment JAX reads (docs.jax.dev, "Introduction to multi-controller JAX").
"""

import argparse
import contextlib
import glob
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from alphaecoli.errors import ConfigError, UserError, reason_of

PACKAGE_LOGGER = logging.getLogger("alphaecoli")  # whose level and format all loggers here take
# A process that has been silent for so long is taken for dead, and the others end.
PEER_TIMEOUT_S = 60
START_TIMEOUT_S = 300  # to wait for all processes at the start
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds what a command of several processes is told on its command line."""
  group = parser.add_argument_group(
    "several processes", "found by themselves on SLURM, Open MPI 4, Cloud TPU and GKE"
  )
  group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
  group.add_argument("--num-processes", type=int, metavar="N", help="processes in all")
  group.add_argument("--process-id", type=int, metavar="I", help="this one, from 0")
  group.add_argument(
    "--distributed",
    choices=("auto", "none"),
    default="auto",
    help="none: one process, whatever the environment says",
  )
  group.add_argument(
    "--peer-timeout",
    type=int,
    default=PEER_TIMEOUT_S,
    metavar="S",
    help=f"seconds until a silent process is taken for dead; default {PEER_TIMEOUT_S}",
  )


@contextlib.contextmanager
def session(flags: argparse.Namespace) -> Iterator[None]:
  """Joins the other processes, if any; at a normal end waits for them.

  An exception passes at once, for `cli.run` to end the process, which ends the others.

  Raises:
    ConfigError: see `settings`.
    UserError: not all processes came.
  """
  initialize(flags)
  yield
  import jax

  if jax.distributed.is_initialized():
    jax.distributed.shutdown()


def initialize(flags: argparse.Namespace) -> None:
  """Joins the other processes, if any. Comes before anything that uses a device.

  Args:
    flags: values of the flags that `add_flags` adds.

  Raises:
    ConfigError: see `settings`.
    UserError: not all processes came.
  """
  import jax  # which notes in the environment that a machine has no TPU chips

  found = settings(flags, os.environ)
  if found is None:
    return
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # of environments that are looked for and not there
      jax.distributed.initialize(
        **found,
        initialization_timeout=START_TIMEOUT_S,
        heartbeat_timeout_seconds=flags.peer_timeout,
      )
  except (RuntimeError, ValueError, OSError) as error:
    raise UserError(
      f"the processes of this run did not find each other ({found or 'Cloud TPU'}): "
      f"{reason_of(error, 300)}"
    ) from error
  index, count = jax.process_index(), jax.process_count()
  if index:
    PACKAGE_LOGGER.setLevel(logging.WARNING)
    name_process(index)
  PACKAGE_LOGGER.info("%d processes, %d devices", count, jax.device_count())


def name_process(index: int) -> None:
  """Puts the number of the process into its log lines."""
  form = f"%(asctime)s %(levelname).1s [process {index}] %(message)s"
  for handler in PACKAGE_LOGGER.handlers:
    handler.setFormatter(logging.Formatter(form, "%H:%M:%S"))


def settings(flags: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any] | None:
  """Returns arguments of jax.distributed.initialize; None for a single process.

  Flags win over the environment. An environment that makes one process only is not used.

  Raises:
    ConfigError: flags are half given or out of range, or an environment has several processes and
      does not say where the first one is.
  """
  if flags.peer_timeout < 1:
    raise ConfigError(f"--peer-timeout={flags.peer_timeout}; expected at least 1 second")
  given = {
    "--coordinator": flags.coordinator,
    "--num-processes": flags.num_processes,
    "--process-id": flags.process_id,
  }
  if any(value is not None for value in given.values()):
    return _explicit(flags, given)
  return _detect(environment) if flags.distributed == "auto" else None


def _explicit(flags: argparse.Namespace, given: Mapping[str, Any]) -> dict[str, Any]:
  """Reads settings from flags; `deactivate`: every local device is ours, with any scheduler."""
  missing = [name for name, value in given.items() if value is None]
  if flags.distributed == "none":
    raise ConfigError("--distributed=none contradicts --coordinator, --num-processes, --process-id")
  if missing:
    raise ConfigError(
      f"{', '.join(missing)} missing: give --coordinator, --num-processes and --process-id "
      "together, or none of them"
    )
  host, _, port = flags.coordinator.rpartition(":")
  if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
    raise ConfigError(f"--coordinator={flags.coordinator}; expected HOST:PORT, as 10.0.0.1:8476")
  if not 0 <= flags.process_id < flags.num_processes:
    raise ConfigError(
      f"--process-id={flags.process_id} of --num-processes={flags.num_processes}; expected 0 to "
      f"{max(flags.num_processes - 1, 0)}"
    )
  return {
    "coordinator_address": flags.coordinator,
    "num_processes": flags.num_processes,
    "process_id": flags.process_id,
    "cluster_detection_method": "deactivate",
  }


def _detect(environment: Mapping[str, str]) -> dict[str, Any] | None:
  """Reads settings from the environment, in JAX's order; None for a single process.

  Source: jax/_src/clusters, jax 0.10 to 0.12.
  """
  if _several(environment.get("OMPI_COMM_WORLD_SIZE")):
    if "OMPI_MCA_orte_hnp_uri" in environment:
      return {"cluster_detection_method": "ompi"}
    raise ConfigError(
      "Open MPI 5 starts several processes without saying where the first one is: add "
      "--coordinator HOST:PORT --num-processes $OMPI_COMM_WORLD_SIZE --process-id "
      "$OMPI_COMM_WORLD_RANK in a shell that mpirun starts, or --distributed=none"
    )
  if all(name in environment for name in _SLURM):
    return {"cluster_detection_method": "slurm"} if _several(environment["SLURM_NTASKS"]) else None
  if _has_tpu(environment):
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if hosts is None and "TPU_SKIP_MDS_QUERY" in environment:
      return None
    alone = hosts is not None and "," not in hosts
    return None if alone and not _several(environment.get("MEGASCALE_NUM_SLICES")) else {}
  if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
    if importlib.util.find_spec("kubernetes"):
      return {"cluster_detection_method": "k8s"}
    raise ConfigError(
      "this pod is one of an indexed Kubernetes job: install jax[k8s], with which the pods find "
      "each other, or give --coordinator, --num-processes and --process-id, or --distributed=none"
    )
  return None


def _several(number: str | None) -> bool:
  """Returns whether a variable of the environment is a number above 1."""
  return number is not None and number.isdecimal() and int(number) > 1


def _has_tpu(environment: Mapping[str, str]) -> bool:
  """Returns whether JAX will run on TPU chips of this machine, without loading their driver."""
  platforms = environment.get("JAX_PLATFORMS", "")
  if platforms and "tpu" not in platforms.split(","):
    return False
  chips = glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*")
  return bool(chips) and importlib.util.find_spec("libtpu") is not None


def of_every_process(value: int) -> list[int]:
  """Gathers a number from each process, in their order. All of them must ask."""
  import jax

  if jax.process_count() == 1:
    return [int(value)]
  from jax.experimental.multihost_utils import process_allgather

  return [int(v) for v in process_allgather(np.int32(value))]
