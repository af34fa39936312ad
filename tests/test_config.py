"""The configuration: names, types, ranges, overrides, and that every key is read."""

import ast
import logging
import typing
from pathlib import Path

import pytest

from alphaecoli import config as config_lib
from alphaecoli.config import TEST_MODE
from alphaecoli.errors import ConfigError

ROOT = Path(__file__).parents[1]
BASE = str(ROOT / "configs" / "base.py")


def test_resolve_and_to_dict_are_inverses():
  config = config_lib.load(BASE)
  assert config_lib.resolve(config.to_dict()) == config


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.stem)
def test_every_shipped_configuration_resolves_in_full_and_in_test_mode(path):
  config_lib.load(path)
  config, name = config_lib.from_arguments(["--config", str(path)], test_mode=True)
  assert name == path.stem
  assert config.train.steps == TEST_MODE["train.steps"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--config.train.step=5"], "unknown configuration key train.step; did you mean train.steps?"),
    (["--config.window_bp=4096"], "did you mean data.window_bp?"),
    (["--config.train.steps=abc"], "invalid literal for int"),
    (["--config.train.steps=2.5"], "2.5"),
    (["--config.data.window_bp=100000"], "nearest: 98304 or 100352"),
    (["--config.data.fold=10"], "between 0 and 9"),
    (["--config.mesh.data=0"], "mesh.data=0"),
    (
      ["--config.data.operon_evidence=some"],
      "operon_evidence='some'; expected all or experimental",
    ),
    (["--config.train.accumulate_steps=3"], "not a multiple"),
    (["--config", "configs/absent.py"], "no configuration file configs/absent.py"),
    (
      ["--config", "--config.data.exclude_gene_types=phantom,pseudogene"],
      "no configuration file --config.data.exclude_gene_types",
    ),
    (["--bogus"], "bogus"),
    (["stray"], "unexpected argument 'stray'"),
  ],
  ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_bad_command_line_is_one_line(arguments, message):
  with pytest.raises(ConfigError) as error:
    config_lib.from_arguments(arguments)
  assert message in str(error.value)
  assert "\n" not in str(error.value)
  assert error.value.exit_code == 2


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("def get_config():\n  return nothing\n", "config.py, line 2: NameError: name 'nothing'"),
    ("def get_config(:\n", "config.py, line 1: SyntaxError"),
    ("x = 1\n", "has no function get_config"),
    ("def get_config():\n  pass\n", "has no function get_config"),
    ("def get_config(name):\n  return 1 / 0\n", "missing 1 required positional argument"),
  ],
  ids=["name", "syntax", "no function", "nothing returned", "arguments"],
)
def test_a_configuration_file_that_fails_is_one_line(tmp_path, text, message):
  path = tmp_path / "config.py"
  path.write_text(text)
  for read in (config_lib.load_file, lambda p: config_lib.from_arguments(["--config", str(p)])):
    with pytest.raises(ConfigError) as error:
      read(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_is_long_on_the_command_line_is_shortened():
  for argument in ("--config.train." + "A" * 3000, "--conf" + "A" * 3000):
    with pytest.raises(ConfigError) as error:
      config_lib.from_arguments([argument])
    assert len(str(error.value)) < 500


def test_overrides_of_every_type():
  config, _ = config_lib.from_arguments(
    [
      f"--config={BASE}",
      "--config.train.steps=7",
      "--config.optimizer.learning_rate=1",
      "--config.data.stranded=true",
      "--config.data.exclude_gene_types=('a', 'b')",
      "--config.data.unknown_expression_types=()",
      '--config.data.expression_groups={"x": ("s1", "s2")}',
      "--config.data.dump=/somewhere",
    ]
  )
  assert config.train.steps == 7
  assert config.optimizer.learning_rate == 1.0
  assert config.data.stranded is True
  assert config.data.exclude_gene_types == ("a", "b")
  assert config.data.unknown_expression_types == ()
  assert config.data.expression_groups == {"x": ("s1", "s2")}
  assert config.data.dump == "/somewhere"


TUPLES = {key: typing.get_args(kind)[0] for key, kind in config_lib.key_types().items()
          if typing.get_origin(kind) is tuple}  # fmt: skip
WRITTEN = {
  "commas": "{},{}",
  "commas-and-spaces": "{} , {},",
  "python": "({!r}, {!r})",
  "list": "[{!r},{!r}]",
  "quotes": "'{}','{}'",
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("key", TUPLES)
def test_commas_make_a_list_for_every_tuple(key, written):
  kind = TUPLES[key]
  values = (1.5, 2.0) if kind is float else ("run/a-1.2", "7")
  section, leaf = key.split(".")
  for arguments in (
    [f"--config.{key}={WRITTEN[written].format(*values)}"],
    [f"--config.{key}", WRITTEN[written].format(*values)],
    [f"--config.{key}={value}" for value in values],  # given twice, it adds up
  ):
    more = ["--config.data.stores=x,y"] if key == "data.store_weights" else []
    config, _ = config_lib.from_arguments([*arguments, *more])
    assert getattr(getattr(config, section), leaf) == values


def test_there_are_tuples_of_names_and_of_numbers():
  assert TUPLES["data.exclude_gene_types"] is str and TUPLES["data.store_weights"] is float


def test_elements_of_a_tuple_may_hold_commas_or_be_none(caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)

  def types(*values):
    flags = [f"--config.data.exclude_gene_types={value}" for value in values]
    return config_lib.from_arguments(flags)[0].data.exclude_gene_types

  assert types("") == types("()") == ()
  assert types("'a,b',c") == types("('a,b','c')") == ("a,b", "c")
  with caplog.at_level("INFO", "alphaecoli"):
    assert types("a", "b,c") == ("a", "b", "c")
  assert "data.exclude_gene_types is given twice, which adds up: ('a', 'b', 'c')" in caplog.text


@pytest.mark.parametrize("value", ["a,2", "(1", "1;2", "(1,'a"])
def test_an_element_that_is_no_number_is_refused(value):
  with pytest.raises(ConfigError, match=r"data\.store_weights=.*expected numbers with commas"):
    config_lib.from_arguments([f"--config.data.store_weights={value}"])


def test_groups_of_expression_may_be_given_one_by_one():
  flags = ["--config.data.expression_groups.heat=S1,S2", "--config.data.expression_groups.cold=S3"]
  config, _ = config_lib.from_arguments(flags, test_mode=True)
  assert config.data.expression_groups == {"heat": ("S1", "S2"), "cold": ("S3",)}


def test_the_old_name_of_init_checkpoint_is_read_and_said(caplog, monkeypatch, tmp_path):
  monkeypatch.setattr(logging.getLogger("alphaecoli"), "propagate", True)
  config, _ = config_lib.from_arguments(["--config.init.from=runs/a=b", "--config.init.freeze=x,y"])
  assert config.init.checkpoint == "runs/a=b" and config.init.frozen_parts == ("x", "y")
  assert "init.from is now init.checkpoint" in caplog.text
  assert config.to_dict()["init"]["checkpoint"] == "runs/a=b"
  caplog.clear()
  old = tmp_path / "old.py"
  lines = ["from alphaecoli.config import base_config", "def get_config():"]
  old.write_text(
    "\n".join([*lines, "  config = base_config()", "  config.init.from_ = 'runs/c'"])
    + "\n  return config\n"
  )
  config, _ = config_lib.from_arguments([f"--config={old}"])
  assert config.init.checkpoint == "runs/c" and "init.from is now" in caplog.text


def test_a_checkpoint_of_an_earlier_version_keeps_its_start():
  values = config_lib.resolve(config_lib.base_config()).to_dict()
  del values["init"]["checkpoint"]
  values["init"]["from"] = "runs/old"
  filled = config_lib.with_new_keys(values)
  assert config_lib.resolve(filled).init.checkpoint == "runs/old"


def test_a_checkpoint_of_an_earlier_version_gives_no_weight_to_later_heads():
  values = config_lib.resolve(config_lib.base_config()).to_dict()
  del values["loss"]["weights"]["gene_structure"]
  assert "gene_structure" not in config_lib.heads_of(values)
  weights = config_lib.resolve(config_lib.with_new_keys(values)).loss.weights
  assert weights.gene_structure == 0 and weights.operon_junction > 0


def test_a_checkpoint_of_an_earlier_version_keeps_what_its_targets_were():
  values = config_lib.resolve(config_lib.base_config()).to_dict()
  for key in ("unknown_expression_types", "operon_evidence"):
    del values["data"][key]
  data = config_lib.resolve(config_lib.with_new_keys(values)).data
  assert data.unknown_expression_types == () and data.operon_evidence == "all"


def test_the_command_line_wins_over_test_mode():
  config, _ = config_lib.from_arguments(["--config.train.steps=3"], test_mode=True)
  assert config.train.steps == 3
  assert config.model.channels == TEST_MODE["model.channels"]


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("train.steps", True, "is a bool; expected int"),
    ("train.steps", "5", "is a str; expected int"),
    ("data.stranded", 1, "is a int; expected bool"),
    ("loss.weights", 1.0, "expected a section"),
    ("train.stepz", 1, "did you mean train.steps?"),
  ],
)
def test_resolve_refuses_what_it_does_not_know(key, value, message):
  plain = config_lib.load(BASE).to_dict()
  section, leaf = key.split(".")
  plain[section][leaf] = value
  with pytest.raises(ConfigError) as error:
    config_lib.resolve(plain)
  assert message in str(error.value)


def test_a_missing_key_is_named():
  plain = config_lib.load(BASE).to_dict()
  del plain["train"]["seed"]
  with pytest.raises(ConfigError, match=r"lacks train\.seed"):
    config_lib.resolve(plain)


def test_every_key_is_read_by_the_package():
  read = set()
  for path in (ROOT / "alphaecoli").rglob("*.py"):
    if path.name != "config.py":
      tree = ast.parse(path.read_text())
      read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
      read |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
  leaves = {key: key.rsplit(".", 1)[-1] for key in config_lib.key_names()}
  unread = [key for key, leaf in leaves.items() if leaf not in read]
  assert unread == []


def test_the_reference_page_is_current():
  assert (ROOT / "docs" / "configuration.md").read_text() == config_lib.reference(), (
    "run: python -m alphaecoli.config > docs/configuration.md"
  )
  rows = [line for line in config_lib.reference().splitlines() if line.startswith("| `")]
  assert rows and all(row.rsplit("|", 2)[1].strip() for row in rows), "a key has no meaning"
