"""A run's scalars in Weights & Biases, where it is asked for."""

import importlib.util
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alphaecoli.errors import UserError

ID_FILE = "wandb_run_id"  # within a work directory; a run that goes on writes to the same one


def check_wandb(project: str) -> None:
  """Checks that the package is there if a project is named.

  Raises:
    UserError: it is not.
  """
  if project and importlib.util.find_spec("wandb") is None:
    raise UserError(
      f"log.wandb={project} needs the package wandb: pip install 'alphaecoli[wandb]', or leave "
      "log.wandb empty"
    )


class WandbRun:
  """The run of one work directory in Weights & Biases."""

  def __init__(self, project: str, workdir: Path, config: Mapping[str, Any]):
    """Starts it, or goes on with it.

    Args:
      project: its name.
      workdir: gives the run its name; keeps its id, and with WANDB_MODE=offline its record.
      config: resolved, to show beside the curves.

    Raises:
      UserError: it can not be started: no login, no network.
    """
    import wandb

    path = workdir / ID_FILE
    if not path.exists():
      path.write_text(uuid.uuid4().hex[:8] + "\n", encoding="utf-8")
    try:
      self._run = wandb.init(
        project=project,
        id=path.read_text(encoding="utf-8").strip(),
        resume="allow",
        name=workdir.absolute().name,
        dir=str(workdir),
        config=dict(config),
      )
    except wandb.Error as error:
      raise UserError(
        f"Weights & Biases did not start: {' '.join(str(error).split())[:300]}; WANDB_MODE=offline "
        "keeps the record in the work directory, an empty log.wandb does without"
      ) from error

  def write(self, kind: str, step: int, scalars: Mapping[str, float]) -> None:
    """Adds scalars; those of a step before its last one it leaves as they were."""
    self._run.log({f"{kind}/{name}": value for name, value in scalars.items()}, step=step)

  def close(self, failed: bool) -> None:
    """Ends it, once everything is sent."""
    self._run.finish(exit_code=int(failed))
