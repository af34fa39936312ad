"""Compiling for accelerators that are not here."""

import importlib.util
import json
import math
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from alphaecoli import ahead_of_time, benchmark
from alphaecoli.config import configs_dir, load
from alphaecoli.errors import ConfigError, UserError
from alphaecoli.hardware import hbm_bytes, peak_flops
from alphaecoli.sharding import make_mesh
from tests.test_benchmark import SMALL

needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install 'alphaecoli[tpu]'"
)
GIB = 2**30
MESSAGE = """\
RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used \
17.91G of 15.75G hbm. Exceeded hbm capacity by 2.16G.

Total hbm usage >= 18.17G:
    reserved        264.00M
    program          17.91G
    arguments            0B

  Largest program allocations in hbm:

  1. Size: 3.00G
     Operator: op_name="jit(step)/decoder/add" source_file="unet.py" source_line=7
     Shape: f32[4,98304,2048]{2,1,0:T(8,128)}
     Unpadded size: 3.00G
     Allocation type: HLO temp
     ==========================

  2. Size: 576.00M
     Shape: bf16[4,98304,768]{2,1,0:T(8,128)(2,1)}
     Unpadded size: 576.00M
     Allocation type: HLO temp
     ==========================
"""


@pytest.fixture
def without_chips(monkeypatch):
  for name in ahead_of_time.NO_TPU:
    monkeypatch.setenv(name, "")
  ahead_of_time.use_without_chips()


def test_the_step_exports_for_gpus(tmp_path, capsys):
  arguments = ["compile", "--platform=cuda", "--devices=8", f"--workdir={tmp_path}", *SMALL]
  assert benchmark.main([*arguments, "--config.mesh.fsdp=2", "--config.mesh.sequence=2"]) == 0
  result = json.loads(capsys.readouterr().out)
  assert result["mesh"] == {"data": 2, "fsdp": 2, "sequence": 2}
  assert result["flops_per_step"] > 1e6
  assert result["module_bytes"] > 1e4
  assert result["parameters"] > 1e3


def test_a_batch_that_does_not_divide_is_refused(tmp_path):
  arguments = ["compile", "--platform=cuda", "--devices=8", f"--workdir={tmp_path}", *SMALL]
  with pytest.raises(ConfigError, match=r"train\.batch_windows=12"):
    benchmark.main([*arguments, "--config.train.batch_windows=12"])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "needs --topology"),
    (["--platform=cuda", "--topology=v5e:2x2"], "--devices"),
    (["--platform=cuda", "--devices=0"], "--devices=0"),
  ],
  ids=["neither", "both", "no-devices"],
)
def test_what_to_compile_for_is_asked(arguments, message):
  with pytest.raises(ConfigError, match=message):
    benchmark.main(["compile", *arguments])


def test_libtpu_is_asked_for(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UserError, match=r"pip install 'alphaecoli\[tpu\]'"):
    benchmark.main(["compile", "--topology=v5e:2x2"])


def test_a_program_that_does_not_fit_is_told_from_the_compiler_s_words():
  assert ahead_of_time.too_large(MESSAGE) == {
    "fits": False,
    "needed_bytes_per_device": round(17.91 * GIB),
    "available_bytes_per_device": round(15.75 * GIB),
    "largest": [
      {"bytes": 3 * GIB, "shape": "f32[4,98304,2048]", "of": "jit(step)/decoder/add"},
      {"bytes": 576 * 2**20, "shape": "bf16[4,98304,768]", "of": ""},
    ],
    "compiler": MESSAGE.splitlines()[0],
  }
  assert ahead_of_time.too_large("INTERNAL: something else") is None


@needs_libtpu
@pytest.mark.parametrize("name", ["v5e:3x3", "v9:2x2", "nonsense"])
def test_an_unknown_slice_is_refused_with_the_known_ones(name, without_chips):
  with pytest.raises(ConfigError, match=rf"--topology={name}.*v5e:1x1 2x2 2x4 4x4"):
    ahead_of_time.topology_devices(name)


@needs_libtpu
@pytest.mark.parametrize("chip", ahead_of_time.TOPOLOGIES)
def test_every_slice_named_is_known_to_libtpu(chip, without_chips):
  for size in ahead_of_time.TOPOLOGIES[chip].split():
    devices = ahead_of_time.topology_devices(f"{chip}:{size}")
    chips = math.prod(map(int, size.split("x")))
    assert len(devices) == chips * (2 if chip == "tpu7x" else 1)  # two devices a chip
  assert peak_flops(devices[0])


@needs_libtpu
@pytest.mark.parametrize("chip", ahead_of_time.TOPOLOGIES)
def test_memory_of_a_chip_is_what_the_compiler_leaves(chip, without_chips):
  size = ahead_of_time.TOPOLOGIES[chip].split()[0]
  device = ahead_of_time.topology_devices(f"{chip}:{size}")[0]
  here = jax.sharding.SingleDeviceSharding(device)
  x = jax.ShapeDtypeStruct((1 << 18, 1 << 18), jnp.float32, sharding=here)
  with pytest.raises(jax.errors.JaxRuntimeError) as error:
    jax.jit(lambda x: x * 2, out_shardings=here).lower(x).compile()
  found = ahead_of_time.too_large(str(error.value))
  assert found is not None and found["available_bytes_per_device"] == hbm_bytes(device)
  assert found["needed_bytes_per_device"] >= x.size * 4


@needs_libtpu
def test_slices_split_the_windows(without_chips):
  devices = ahead_of_time.topology_devices("v5e:2x2", slices=2)
  mesh = make_mesh(load(configs_dir() / "pod.py").mesh, devices)
  assert mesh.devices.shape == (2, 4, 1)
  assert [[d.slice_index for d in row.flat] for row in mesh.devices] == [[0] * 4, [1] * 4]


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize(
  ("options", "status"),
  [
    (["--config.mesh.fsdp=2", "--config.train.accumulate_steps=2"], 0),
    (["--config.model.mlp_ratio=100000000"], 1),
  ],
  ids=["fits", "too-large"],
)
def test_the_step_compiles_for_tpus_that_are_not_here(options, status, tmp_path):
  command = [sys.executable, "-m", "alphaecoli.benchmark", "compile", "--topology=v5e:2x2"]
  command += ["--quick", f"--workdir={tmp_path}", *SMALL, *options]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == status, done.stderr
  result = json.loads(done.stdout)
  assert result["devices"] == 4 and result["fits"] == (not status)
  if status:
    assert result["needed_bytes_per_device"] > result["available_bytes_per_device"]
    return
  memory = result["memory_bytes_per_device"]
  assert 0 < memory["total"] < result["hbm_bytes_per_device"]
  assert memory["outputs_in_place_of_arguments"] > 0.9 * 12 * result["parameters"] / 2
  assert result["flops_per_step_and_device"] > 1e6
  assert result["collectives_per_step_and_device"]["all-reduce"]["count"] > 10
  assert not re.search("WARNING|Traceback", done.stderr)
