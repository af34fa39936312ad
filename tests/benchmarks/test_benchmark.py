"""The benchmark command: every part measures something and says what, in JSON."""

import json

import pytest

from alphaecoli import benchmark
from alphaecoli.errors import ConfigError

SMALL = [
  "--config.data.window_bp=2048",
  "--config.model.channels=4",
  "--config.model.channel_step=0",
  "--config.model.n_layers=1",
  "--config.model.n_heads=1",
  "--config.model.key_dim=4",
  "--config.model.value_dim=4",
  "--config.model.pair_channels=4",
  "--config.model.pair_heads=1",
  "--config.model.pair_head_dim=4",
  "--config.model.compute_dtype=float32",
  "--config.model.remat=False",
]


@pytest.mark.parametrize(
  ("arguments", "figures"),
  [
    (["bson", "--documents=3000"], ["ratio_read_to_bare", "peak_resident_bytes"]),
    (["pipeline", "--windows=16"], ["windows_per_s", "bases_per_s"]),
    (
      ["step"],
      ["step_s", "bases_per_s", "flops_per_s_and_device", "parameters", "model_flops_per_step",
       "model_flops_per_s_and_device", "planned_bytes"],
    ),
    (["predict", "--bases=4096"], ["bases_per_s", "seconds", "margin_bp"]),
    (["predict", "--bases=2048"], ["bases_per_s", "seconds"]),
    (["predict", "--bases=4096", "--contig-bp=1000"], ["contigs", "ratio_to_whole_windows"]),
  ],
  ids=["bson", "pipeline", "step", "predict", "predict-one-window", "predict-contigs"],
)  # fmt: skip
def test_every_part_prints_its_figures_as_json(arguments, figures, tmp_path, capsys):
  out = tmp_path / "out.json"
  trace = tmp_path / "trace"
  options = ["--repeats=1", f"--workdir={tmp_path}", f"--out={out}", f"--trace={trace}", *SMALL]
  assert benchmark.main([*arguments, *options]) == 0
  printed = json.loads(capsys.readouterr().out)
  assert printed == json.loads(out.read_text())
  assert printed["part"] == arguments[0]
  assert all(printed[name] > 0 for name in figures)
  assert bool(list(trace.rglob("*.xplane.pb"))) == (arguments[0] == "step")


def test_documents_are_counted(tmp_path, capsys):
  benchmark.main(["bson", "--documents=1234", "--repeats=1", f"--workdir={tmp_path}"])
  assert json.loads(capsys.readouterr().out)["documents"] == 1234


def test_no_repeats_is_refused():
  with pytest.raises(ConfigError, match="--repeats=0"):
    benchmark.main(["bson", "--repeats=0"])
