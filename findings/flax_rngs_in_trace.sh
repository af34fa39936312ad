#!/usr/bin/env bash
# flax 0.12.8 with jax 0.10.2: tracing a model that takes its keys from nnx.Rngs costs work that grows
# with the square of the number of its parameters.
# One would guess that nnx.eval_shape, which computes nothing, costs the same for each parameter.
# Seen: nnx.Rngs counts in a variable; setting a variable asks its value for a sharding, a traced value
# has none, and jax builds the message of that error (which nobody reads) by searching all that was
# traced so far. At 400 parameters each one costs fourteen times what its initialiser does; in a model
# of 273 it was three quarters of the time to get the shapes. A count that is a
# Python number gives the same keys. Not so any more with flax 0.12.12 and jax 0.11.2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 flax==0.12.8
cat >"$folder/run.py" <<'PYTHON'
import cProfile
import itertools
import pstats

import jax
import jax.numpy as jnp
from flax import nnx


class Counted:
  """The keys that nnx.Rngs gives, with a Python number as the count."""

  def __init__(self, seed):
    self.key, self.count = jax.random.key(seed), itertools.count()

  def params(self):
    return jax.random.fold_in(self.key, next(self.count))


class Model(nnx.Module):
  def __init__(self, n, rngs):
    init = nnx.initializers.normal()
    self.kernels = nnx.List([nnx.Param(init(rngs.params(), (4, 4), jnp.float32)) for _ in range(n)])


def calls(n, make):
  """Returns the Python function calls for each parameter of an abstract model of n."""
  profile = cProfile.Profile()
  profile.enable()
  nnx.eval_shape(lambda: Model(n, make(0)))
  profile.disable()
  return round(pstats.Stats(profile).total_calls / n, -2)


calls(5, nnx.Rngs), calls(5, Counted)  # warm
first = [jax.random.key_data(make(0).params()).tolist() for make in (nnx.Rngs, Counted)]
print("the same keys:", first[0] == first[1])
for make in (nnx.Rngs, Counted):
  few, many = calls(50, make), calls(400, make)
  print(f"{make.__name__:8} 50: {few:,.0f} calls each; 400: {many:,.0f}; grows: {many > 2 * few}")
PYTHON
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/run.py" | tee "$folder/seen"
grep -q "^the same keys: True" "$folder/seen"
grep -q "^Rngs .*grows: True" "$folder/seen"
grep -q "^Counted .*grows: False" "$folder/seen"
