"""What becomes of skipped tests, with and without ALPHAECOLI_NO_SKIPS."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """\
import pytest

@pytest.mark.skipif(True, reason="no browser")
@pytest.mark.parametrize("i", [1, 2])
def test_marked(i):
  pass

@pytest.mark.skipif(True, reason="no browser")
def test_marked_too():
  pass

def test_within():
  pytest.skip("no compiler")

@pytest.mark.gpu
@pytest.mark.skipif(True, reason="no GPU")
def test_gpu():
  pass

@pytest.mark.xfail(strict=True)
def test_expected_failure():
  assert False
"""


def run_tests(directory: Path, **environment: str) -> tuple[int, str]:
  """Exit status and output of pytest on a directory, with the hooks of tests.skips."""
  (directory / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
  here = {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
  kept = {k: v for k, v in os.environ.items() if not k.startswith(("ALPHAECOLI_", "PYTEST_"))}
  done = subprocess.run(
    [sys.executable, "-m", "pytest", "-p", "tests.skips", "-p", "no:cacheprovider", "-ra"],
    cwd=directory, env=kept | here | environment, capture_output=True, text=True, check=False,
  )  # fmt: skip
  return done.returncode, done.stdout


@pytest.mark.parametrize("forbidden", [False, True])
def test_only_gpu_tests_may_be_skipped_where_skips_are_forbidden(forbidden, tmp_path):
  (tmp_path / "test_it.py").write_text(TESTS)
  status, out = run_tests(tmp_path, **({"ALPHAECOLI_NO_SKIPS": "1"} if forbidden else {}))
  if forbidden:
    assert status == 1 and "1 failed, 1 skipped, 1 xfailed, 3 errors" in out
    assert "test_marked[2] was skipped: Skipped: no browser" in out
    assert "test_within was skipped: Skipped: no compiler" in out
  else:
    assert status == 0 and "5 skipped, 1 xfailed" in out
    assert "SKIPPED [3] test_it.py: no browser" in out


def test_a_module_that_skips_itself_fails_where_skips_are_forbidden(tmp_path):
  (tmp_path / "test_it.py").write_text('import pytest\npytest.importorskip("no_such_module")\n')
  assert run_tests(tmp_path)[0] == pytest.ExitCode.NO_TESTS_COLLECTED
  status, out = run_tests(tmp_path, ALPHAECOLI_NO_SKIPS="1")
  assert status == pytest.ExitCode.INTERRUPTED and "was skipped" in out
