"""Where compiled programs are kept between commands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from alphaecoli.parallel import hardware


@pytest.fixture(autouse=True)
def no_cache():
  """Forgets the directory that another test told JAX of."""
  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", None)
  yield
  jax.config.update("jax_compilation_cache_dir", before)


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


@pytest.fixture
def cache(tmp_path):
  """Tells JAX of a directory for compiled programs."""
  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", str(tmp_path))
  yield tmp_path
  jax.config.update("jax_compilation_cache_dir", before)


def test_a_kept_program_is_neither_traced_nor_compiled_again(cache):
  built, device = [], jax.devices()[1]

  def build():
    built.append(1)
    one = jax.ShapeDtypeStruct((3,), "float32", sharding=SingleDeviceSharding(device))
    return jax.jit(lambda x: {"double": 2 * x}).lower(one).compile()

  assert hardware.kept_program({"model": 1}, device) is None
  for _ in range(2):
    program = hardware.kept_program({"model": 1}, device, build)
    assert program(np.ones(3, np.float32))["double"].tolist() == [2, 2, 2]
  assert len(built) == 1
  assert hardware.kept_program({"model": 2}, device) is None
  (file,) = cache.glob("program-*")
  for damaged in (file.read_bytes()[:-1], b""):  # is made again
    file.write_bytes(damaged)
    hardware.kept_program({"model": 1}, device, build)
  assert len(built) == 3


def test_a_program_that_jax_has_in_its_cache_is_kept_whole(cache):
  before = jax.config.jax_persistent_cache_min_compile_time_secs
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  x, device = jnp.ones((64, 64)), jax.devices()[0]

  def build():
    jax.clear_caches()  # so that it is JAX's files that are asked
    return (
      jax.jit(lambda x: jnp.sin(jnp.tanh(x).sum(0)[:, None] + jnp.sort(x * 2))).lower(x).compile()
    )

  try:
    expected = build()(x)
    assert list(cache.glob("jit*"))
    hardware.kept_program({"model": 3}, device, build)
    found = hardware.kept_program({"model": 3}, device)(x)
  finally:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
  assert (np.asarray(found) == np.asarray(expected)).all()


def test_without_a_cache_programs_are_built():
  program = jax.jit(lambda: 1).lower().compile()
  assert hardware.kept_program({}, jax.devices()[0], lambda: program) is program
  assert hardware.kept_program({}, jax.devices()[0]) is None
