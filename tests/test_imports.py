"""The order of the house: which part may import which, read from the source."""

import ast
import functools
import importlib.util
from pathlib import Path

import pytest

import alphaecoli

ROOT = Path(alphaecoli.__file__).parent
MOST_AT_TOP, MOST_IN_FOLDER, MOST_MODULES, MOST_LINES = 19, 15, 142, 350
ACCELERATOR = ("jax", "flax", "grain", "optax", "orbax", "chex")
# What stands in a row imports only rows above it, and its own folder.
ORDER = (
  ("errors",),
  ("schema",),
  ("files", "config"),
  ("cli",),
  ("genomics",),
  ("regulondb", "organism"),
  ("tracks",),
  ("data", "parallel"),
  ("model",),
  ("checkpoints",),
  ("outputs",),
  ("evaluation", "inference"),
  ("training", "variants"),
  ("api",),
  ("plotting",),
  ("reporting", "benchmarks"),
)
COMMANDS = (
  "train", "evaluate", "predict", "score", "plot", "report", "prepare", "verify", "benchmark",
  "phases", "crossvalidate", "models",
)  # fmt: skip
FILE_READERS = (
  "alphaecoli.regulondb",
  "alphaecoli.genomics",
  "alphaecoli.tracks.store",
  "alphaecoli.tracks.process",
  "alphaecoli.data",
  "alphaecoli.checkpoints",
  "orbax",
  "gzip",
  "zipfile",
  "bson",
)


def module_name(path: Path) -> str:
  parts = ["alphaecoli", *path.relative_to(ROOT).with_suffix("").parts]
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(p): p for p in sorted(ROOT.rglob("*.py")) if "configs" not in p.parts}


@functools.cache
def imports_of(module: str) -> set[str]:
  """Modules that a module names in any import statement, at its top or in a function."""
  if module == "alphaecoli":  # imports its public names when they are first used
    return set()
  found: set[str] = set()
  for node in ast.walk(ast.parse(MODULES[module].read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
        base = importlib.util.resolve_name("." * node.level + base, package)
      found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
  return found


def reached_from(module: str) -> dict[str, str]:
  """Everything imported directly or through our own modules, with who imports it."""
  reached: dict[str, str] = {}
  queue = [module]
  while queue:
    current = queue.pop()
    for name in imports_of(current):
      if name not in reached:
        reached[name] = current
        if name in MODULES:
          queue.append(name)
  return reached


def offences(modules: list[str], forbidden: tuple[str, ...]) -> list[str]:
  return [
    f"{module} reaches {name} through {importer}"
    for module in modules
    for name, importer in reached_from(module).items()
    if any(name == f or name.startswith(f + ".") for f in forbidden)
  ]


def under(*prefixes: str) -> list[str]:
  return [m for m in MODULES if any(m == p or m.startswith(p + ".") for p in prefixes)]


RULES = {
  "reading-knows-no-accelerator": (
    (
      "alphaecoli.genomics",
      "alphaecoli.regulondb",
      "alphaecoli.organism",
      "alphaecoli.tracks",
      "alphaecoli.prepare",
      "alphaecoli.data.windows",
    ),
    ACCELERATOR,
  ),
  "genomics-is-numpy-alone": (
    ("alphaecoli.genomics",),
    ("bson", "ml_collections", "scipy", "pyBigWig", *ACCELERATOR),
  ),
  "prediction-knows-neither-regulondb-nor-training": (
    (
      "alphaecoli.inference",
      "alphaecoli.variants",
      "alphaecoli.api",
      "alphaecoli.predict",
      "alphaecoli.phases",
      "alphaecoli.score",
    ),
    (
      "alphaecoli.regulondb",
      "alphaecoli.training",
      "alphaecoli.train",
      "alphaecoli.data",
      "grain",
      "optax",
    ),
  ),
  "model-knows-no-files": (("alphaecoli.model",), FILE_READERS),
}


@pytest.mark.parametrize("rule", RULES)
def test_imports_flow_one_way(rule):
  prefixes, forbidden = RULES[rule]
  modules = under(*prefixes)
  assert modules, f"no module under {prefixes}"
  assert not offences(modules, forbidden)


def test_the_rules_can_fail():
  assert offences(["alphaecoli.model.model"], ("jax",))
  assert offences(["alphaecoli.predict"], ("pyBigWig",))


def room_of(module: str) -> str:
  """The folder or top-level module that a module belongs to."""
  return module.split(".")[1] if "." in module else ""


def test_every_module_has_a_place_in_the_order():
  rooms = {room_of(m) for m in MODULES} - {"", "datasets"}
  assert rooms == {room for row in ORDER for room in row} | set(COMMANDS)


@pytest.mark.parametrize("row", ORDER, ids=",".join)
def test_nothing_runs_back_up(row):
  above = {room for earlier in ORDER[: ORDER.index(row)] for room in earlier}
  wrong = [
    f"{module} imports {name}"
    for module in MODULES
    if room_of(module) in row
    for name in imports_of(module)
    if name in MODULES and room_of(name) not in above | {room_of(module), ""}
  ]
  assert not wrong


def test_nothing_imports_a_command():
  commands = {f"alphaecoli.{command}" for command in COMMANDS}
  assert not [f"{m} imports {n}" for m in MODULES for n in imports_of(m) & commands]


def test_no_circle():
  circles = [m for m in MODULES if m in reached_from(m)]
  assert not circles


def test_orbax_stays_behind_checkpoints():
  users = {m for m in MODULES if any(n.split(".")[0] == "orbax" for n in imports_of(m))}
  assert users
  assert {room_of(m) for m in users} == {"checkpoints"}


def test_rooms_stay_small():
  files = [p for p in MODULES.values() if p.name != "__init__.py"]
  sizes = {p: len(p.read_text().splitlines()) for p in MODULES.values()}
  assert not {p.relative_to(ROOT): n for p, n in sizes.items() if n > MOST_LINES}
  assert len(list(ROOT.glob("*.py"))) <= MOST_AT_TOP
  folders = {p.parent for p in files} - {ROOT}
  assert not {f.name for f in folders if len([p for p in files if p.parent == f]) > MOST_IN_FOLDER}
  assert len(files) + 1 <= MOST_MODULES
