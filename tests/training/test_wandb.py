"""Weights & Biases, through a stand-in of its package that remembers what it is told."""

import importlib
import json
import signal
import sys

import pytest

from alphaecoli import train
from alphaecoli.errors import UserError
from alphaecoli.training.resume import EXIT_STOPPED
from alphaecoli.training.run import train_on
from tests.training.small import stand_in, tiny_config, with_mesh
from tests.training.test_run import _at_step

STAND_IN = """
class Error(Exception):
  pass

calls, broken = [], False

def init(**options):
  if broken:
    raise Error("no API key configured.\\nUse wandb login")
  calls.append(("init", options))
  return Run()

class Run:
  def log(self, values, step):
    calls.append(("log", step, values))

  def finish(self, exit_code):
    calls.append(("finish", exit_code))
"""


@pytest.fixture
def wandb(tmp_path, monkeypatch):
  """The stand-in, in place of a package that may be there."""
  (tmp_path / "packages").mkdir()
  (tmp_path / "packages" / "wandb.py").write_text(STAND_IN)
  monkeypatch.syspath_prepend(tmp_path / "packages")
  monkeypatch.delitem(sys.modules, "wandb", raising=False)
  yield importlib.import_module("wandb")
  monkeypatch.delitem(sys.modules, "wandb")


def _config():
  return with_mesh(tiny_config(log__wandb="bacteria"), 8)


def test_a_run_that_goes_on_sends_the_same_scalars_to_the_same_run(
  store, tmp_path, monkeypatch, wandb
):
  workdir = tmp_path / "mine"
  workdir.mkdir()
  with monkeypatch.context() as patch:
    _at_step(patch, 3, lambda: signal.raise_signal(signal.SIGTERM))
    assert train_on(store, _config(), workdir, stand_in()) == EXIT_STOPPED
  assert train_on(store, _config(), workdir, stand_in()) == 0
  starts = [call[1] for call in wandb.calls if call[0] == "init"]
  assert len(starts) == 2 and starts[0]["id"] == starts[1]["id"] and len(starts[0]["id"]) == 8
  assert {start["project"] for start in starts} == {"bacteria"}
  assert {start["name"] for start in starts} == {"mine"} and starts[0]["resume"] == "allow"
  assert starts[0]["config"]["train"]["steps"] == 8
  assert [call[1] for call in wandb.calls if call[0] == "finish"] == [0, 0]
  records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  sent = [call[1:] for call in wandb.calls if call[0] == "log"]
  assert len(sent) == len(records) == 5
  for (step, values), record in zip(sent, records, strict=True):
    kind = record.pop("kind")
    assert record.pop("step") == step
    assert values == {f"{kind}/{name}": value for name, value in record.items()}


def test_a_run_that_fails_is_marked_so(store, tmp_path, monkeypatch, wandb):
  def fail():
    raise UserError("no")

  _at_step(monkeypatch, 3, fail)
  with pytest.raises(UserError):
    train_on(store, _config(), tmp_path, stand_in())
  assert wandb.calls[-1] == ("finish", 1)


def test_a_service_that_refuses_is_one_line(store, tmp_path, wandb):
  wandb.broken = True
  with pytest.raises(UserError, match=r"did not start: no API key .*; WANDB_MODE=off") as failure:
    train_on(store, _config(), tmp_path, stand_in())
  assert "\n" not in str(failure.value)


def test_a_missing_package_is_one_line_before_any_work(tmp_path, monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  arguments = [f"--workdir={tmp_path}", "--test-mode", "--config.train.batch_windows=8"]
  with pytest.raises(UserError, match=r"log.wandb=mine .* pip install 'alphaecoli\[wandb\]'"):
    train.main([*arguments, "--config.log.wandb=mine"])
  assert not list(tmp_path.iterdir())
