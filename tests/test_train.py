import json
import subprocess
import sys

import pytest

from alphaecoli import train
from alphaecoli.errors import ConfigError, DataError, UserError
from alphaecoli.training.run import make_directory
from tests import toy

CODE = """
import sys
from alphaecoli.train import main
assert main(sys.argv[1:]) == 0
assert not {"jax", "flax", "orbax", "grain"} & sys.modules.keys()
"""


def test_processing_data_alone_writes_a_store_and_needs_no_jax(tmp_path):
  dump = toy.write_random(tmp_path / "dump")
  arguments = [
    "--process-data-only",
    f"--workdir={tmp_path / 'work'}",
    f"--config.data.dump={dump.dump}",
    f"--config.data.genome={dump.fasta}",
    f"--config.data.min_genes_per_unit={dump.min_genes_per_unit}",
  ]
  done = subprocess.run(
    [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  (store,) = (tmp_path / "work" / "tracks").iterdir()
  assert json.loads((store / "manifest.json").read_text())["contig"]["length_bp"] == 60_000


@pytest.mark.parametrize(
  ("arguments", "error", "message"),
  [
    (["--config.train.step=5"], ConfigError, "did you mean train.steps"),
    (["--config=nowhere.py"], ConfigError, "no configuration file"),
    (["--config.data.dump=nowhere", "--config.train.batch_windows=8"], DataError, "nowhere"),
    (["--config.train.batch_windows=4"], ConfigError, "not a multiple of mesh.data"),
    (["--config.mesh.data=3"], ConfigError, "needs 3 devices and there are 8"),
  ],
  ids=["key", "file", "dump", "batch", "mesh"],
)
def test_bad_command_lines_are_one_line_errors(tmp_path, arguments, error, message):
  with pytest.raises(error, match=message) as failure:
    train.main([f"--workdir={tmp_path}", "--test-mode", "--config.mesh.data=8", *arguments])
  assert "\n" not in str(failure.value)


def test_a_work_directory_that_can_not_be_made_is_a_one_line_error(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot make the work directory"):
    make_directory(tmp_path / "file" / "run")
