"""Test settings: eight virtual CPU devices, quick compilation, strict shapes."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join(
  [
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",  # compiling takes longer than running here
  ]
)
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["ALPHAECOLI_CACHE"] = ""  # no programs of other runs, none left behind

import pytest
from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401  (found by name below)
from tests.skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401

install_import_hook("alphaecoli", "tests.typecheck.typechecker")


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory):
  """A track store of 120,000 made-up bases; each held-out region has 6,000."""
  from tests.stores import random_store

  return random_store(tmp_path_factory.mktemp("toy_store"))
