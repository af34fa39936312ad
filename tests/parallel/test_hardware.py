"""Where compiled programs are kept between commands."""

import jax
import pytest

from alphaecoli.parallel import hardware


@pytest.fixture
def directory(monkeypatch):
  """Returns what JAX was told, without telling it."""
  told = []
  monkeypatch.setattr(hardware, "use_compilation_cache", told.append)
  monkeypatch.delenv("ALPHAECOLI_CACHE")
  return told


def test_programs_lie_in_the_users_cache_by_kind_of_cpu(directory, monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  hardware.use_user_cache()
  monkeypatch.setenv("ALPHAECOLI_CACHE", str(tmp_path / "named"))
  hardware.use_user_cache()
  kind = hardware.cpu_kind()
  assert directory == [tmp_path / "alphaecoli" / kind, tmp_path / "named" / kind]
  assert all(path.is_dir() for path in directory)


def test_without_a_place_nothing_is_kept_and_nothing_is_said(directory, monkeypatch, tmp_path):
  (tmp_path / "file").touch()
  for place in ("", str(tmp_path / "file")):
    monkeypatch.setenv("ALPHAECOLI_CACHE", place)
    hardware.use_user_cache()
  monkeypatch.delenv("ALPHAECOLI_CACHE")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  before = jax.config.jax_compilation_cache_dir
  try:
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "of_jax"))
    hardware.use_user_cache()
  finally:
    jax.config.update("jax_compilation_cache_dir", before)
  assert directory == []
