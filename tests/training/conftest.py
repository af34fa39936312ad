"""Fixtures shared by the tests of training."""

import pytest

from tests import stores


@pytest.fixture(scope="session")
def store(tmp_path_factory):
  """A random chromosome of 120,000 bp with genes, operons and expression."""
  return stores.random_store(tmp_path_factory.mktemp("store"))
