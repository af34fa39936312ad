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

from alphaecoli import benchmark
from alphaecoli.benchmarks import compile as ahead_of_time
from alphaecoli.benchmarks.memory_plan import read_plan
from alphaecoli.config import configs_dir, load
from alphaecoli.errors import ConfigError, UserError
from alphaecoli.model.functional import FunctionalModel
from alphaecoli.parallel.hardware import hbm_bytes, peak_flops
from alphaecoli.parallel.sharding import make_mesh
from alphaecoli.training.profiler import counting_mesh
from tests.benchmarks.test_benchmark import SMALL
from tests.training.small import stand_in, tiny_config

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
  for name, value in ahead_of_time.NO_TPU.items():
    monkeypatch.setenv(name, value)
  ahead_of_time.use_without_chips()


def test_the_step_exports_for_gpus(tmp_path, capsys):
  arguments = ["compile", "--platform=cuda", "--devices=8", f"--workdir={tmp_path}", *SMALL]
  assert benchmark.main([*arguments, "--config.mesh.fsdp=2", "--config.mesh.sequence=2"]) == 0
  result = json.loads(capsys.readouterr().out)
  assert result["mesh"] == {"data": 2, "fsdp": 2, "sequence": 2}
  assert result["model_flops_per_step"] > 1e6
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


def test_micro_batches_do_not_make_the_step_s_arithmetic_less(toy_store, monkeypatch):
  """XLA counts a loop's body once; 32 windows are the same work in one batch and in four."""
  monkeypatch.setattr(FunctionalModel, "of_config", lambda config, table: stand_in())
  counts = {}
  for parts in (1, 4):
    config = tiny_config(train__batch_windows=32, train__accumulate_steps=parts)
    step, inputs, _ = ahead_of_time._step(config, toy_store, counting_mesh())
    with jax.set_mesh(counting_mesh()):
      counts[parts] = step.lower(*inputs).compile().cost_analysis()["flops"]
  assert counts[4] < 0.5 * counts[1]  # or nothing is to be mended any more
  factor = ahead_of_time.counted_in_loop(config, toy_store)
  assert factor * counts[4] == pytest.approx(counts[1], rel=0.05)


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
  assert found is not None
  # libtpu 0.0.48.1 cuts after two decimals of a GiB.
  assert 0 <= hbm_bytes(device) - found["available_bytes_per_device"] < 0.01 * 2**30
  assert found["needed_bytes_per_device"] >= x.size * 4


@needs_libtpu
def test_slices_split_the_windows(without_chips):
  devices = ahead_of_time.topology_devices("v5e:2x2", slices=2)
  mesh = make_mesh(load(configs_dir() / "pod.py").mesh, devices)
  assert mesh.devices.shape == (2, 4, 1)
  assert [[d.slice_index for d in row.flat] for row in mesh.devices] == [[0] * 4, [1] * 4]


def test_memory_is_read_from_what_the_compiler_writes_down(tmp_path):
  """Names and notation of XLA's dumps, shortened."""
  stem = "module_0001.jit_step.cl_9.after_optimizations"
  (tmp_path / "module_0000.jit_other.cl_9.after_optimizations.txt").write_text("other")
  (tmp_path / f"{stem}.txt").write_text(
    "ENTRY %main (p: f32[8]) -> f32[8] {\n"
    '  %fusion.1 = bf16[4,98304,768]{2,1,0} fusion(%p), metadata={op_name="jit(step)/encoder"}\n'
    "  ROOT %all = f32[8]{0} all-reduce(%p), channel_id=1\n}\n"
  )
  (tmp_path / f"{stem}-buffer-assignment.txt").write_text(
    "BufferAssignment:\n"
    "allocation 0: size 512, thread-local:\n"
    "allocation 1: size 4096, parameter 3, shape |f32[1024]| at ShapeIndex {}:\n"
    " value: <3 param.3 @0> (size=4096,offset=0): f32[1024]{0:T(1024)}\n"
    "allocation 2: size 2048, parameter 0, shape |s32[512]| at ShapeIndex {}, maybe-live-out:\n"
    "allocation 3: size 700000000, preallocated-temp:\n"
    " value: <7 copy-start.1{} @0> (size=512,offset=9): (f32[4]{0}, f32[4]{0}, u32[]{:S(2)})\n"
    " value: <8 fusion.1{} @0> (size=603979776,offset=0): bf16[4,98304,768]{2,1,0:T(8,128)(2,1)}\n"
    " value: <9 copy.2 @0> (size=1024,offset=512): f32[256]{0:T(256)}\n"
    "allocation 4: size 9000000, color 1, preallocated-temp:\n"
    " value: <11 fusion.3 @1> (size=8000000,offset=0): f32[2000000]{0:T(128)S(1)}\n"
  )
  assert read_plan(tmp_path) == {
    "memory_bytes_per_device": {
      "arguments": 6144,
      "temporaries": 700_000_000,
      "others": 512,
      "total": 700_006_656,
    },
    "largest": [
      {"bytes": 603_979_776, "shape": "bf16[4,98304,768]", "of": "jit(step)/encoder"},
      {"bytes": 1024, "shape": "f32[256]", "of": "copy.2"},
    ],
    "collectives_per_step_and_device": {"all-reduce": {"count": 1, "bytes": 32}},
  }


def compile_small(tmp_path, *options):
  """Exit status, JSON and log of the command, as a user runs it."""
  command = [sys.executable, "-m", "alphaecoli.benchmark", "compile", "--topology=v5e:2x2"]
  command += [f"--workdir={tmp_path}", *SMALL, *options]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.stdout, done.stderr
  return done.returncode, json.loads(done.stdout), done.stderr


@needs_libtpu
@pytest.mark.slow
def test_the_step_compiles_for_tpus_that_are_not_here(tmp_path):
  options = ["--config.mesh.fsdp=2", "--config.train.accumulate_steps=2"]
  status, whole, log = compile_small(tmp_path, *options)
  assert status == 0 and whole["fits"] and whole["devices"] == 4
  assert not re.search("WARNING|Traceback", log)
  memory = whole["memory_bytes_per_device"]
  assert 0 < memory["total"] < whole["hbm_bytes_per_device"]
  assert memory["outputs_in_place_of_arguments"] > 0.9 * 12 * whole["parameters"] / 2
  assert whole["flops_per_step_and_device"] > 1e6
  assert whole["collectives_per_step_and_device"]["all-reduce"]["count"] > 10

  status, planned, _ = compile_small(tmp_path, *options, "--plan")
  assert status == 0 and planned["fits"]
  same = ["model_flops_per_step", "parameters", "collectives_per_step_and_device"]
  assert [planned[name] for name in same] == [whole[name] for name in same]
  assert planned["memory_bytes_per_device"]["arguments"] == memory["arguments"]


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("how", ["--quick", "--plan"])
def test_a_step_that_does_not_fit_says_so(how, tmp_path):
  status, result, _ = compile_small(tmp_path, "--config.model.mlp_ratio=100000000", how)
  assert status == 1 and not result["fits"]
  assert result["needed_bytes_per_device"] > result["available_bytes_per_device"]
  assert result["available_bytes_per_device"] == result["hbm_bytes_per_device"]
