"""The notebook in docs runs from its first cell to its last, with a small untrained model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import alphaecoli
from tests.inference.runs import save_run

NOTEBOOK = Path(alphaecoli.__file__).parents[1] / "docs" / "analysis.ipynb"
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def test_notebook_runs_and_draws(tmp_path):
  run, done = save_run(tmp_path / "run"), tmp_path / "done.ipynb"
  flags = "--xla_backend_optimization_level=0"  # one device, as a user has
  paths = {"PYTHONPATH": str(NOTEBOOK.parents[1]), "IPYTHONDIR": str(tmp_path / "ipython")}
  kept = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
  result = subprocess.run(
    [sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(done)],
    env={**kept, **paths, "ALPHAECOLI_CHECKPOINT": str(run), "XLA_FLAGS": flags},
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )
  assert result.returncode == 0, result.stderr[-3000:]
  cells = [c for c in json.loads(done.read_text())["cells"] if c["cell_type"] == "code"]
  outputs = [output for cell in cells for output in cell["outputs"]]
  assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
  assert "reference mismatch" in json.dumps(outputs)


def test_notebook_is_kept_without_outputs():
  cells = json.loads(NOTEBOOK.read_text())["cells"]
  assert all(not cell.get("outputs") for cell in cells)
