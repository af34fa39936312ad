"""Which part may import which: read from the source, without importing it."""

import ast
import importlib.util
from pathlib import Path

import pytest

import alphaecoli

ROOT = Path(alphaecoli.__file__).parent
ACCELERATOR = ("jax", "flax", "grain", "optax", "orbax", "chex")
READERS = (
  "alphaecoli.regulondb",
  "alphaecoli.genome",
  "alphaecoli.tracks.store",
  "alphaecoli.tracks.process",
  "alphaecoli.data",
  "alphaecoli.checkpoint",
  "orbax",
  "gzip",
  "zipfile",
  "bson",
)


def module_name(path: Path) -> str:
  parts = ["alphaecoli", *path.relative_to(ROOT).with_suffix("").parts]
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(p): p for p in sorted(ROOT.rglob("*.py")) if "configs" not in p.parts}


def imports_of(module: str) -> set[str]:
  """Modules that a module names in any import statement, at its top or in a function."""
  if module == "alphaecoli":  # imports its public calls when they are first used
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
      "alphaecoli.regulondb",
      "alphaecoli.tracks",
      "alphaecoli.genome",
      "alphaecoli.annotation",
      "alphaecoli.organism",
      "alphaecoli.prepare",
      "alphaecoli.data.splits",
      "alphaecoli.data.windows",
    ),
    ACCELERATOR,
  ),
  "prediction-knows-neither-regulondb-nor-training": (
    ("alphaecoli.inference", "alphaecoli.predict", "alphaecoli.phases", "alphaecoli.score"),
    (
      "alphaecoli.regulondb",
      "alphaecoli.training",
      "alphaecoli.train",
      "alphaecoli.data",
      "grain",
      "optax",
    ),
  ),
  "model-knows-no-files": (("alphaecoli.model",), READERS),
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
