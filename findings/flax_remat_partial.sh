#!/usr/bin/env bash
# flax 0.12.12 with jax 0.11.2: nnx.remat can not take a function whose keyword argument
# functools.partial has set.
# One would guess that it can, as nnx.jit, nnx.grad and jax.checkpoint all do: a flag such as
# train=True is commonly set so.
# Seen: TypeError, "keyword arguments could not be resolved to positions", which names neither the
# function nor the argument. A lambda that sets the flag works. The same with flax 0.12.8, jax 0.10.2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.11.2 jaxlib==0.11.2 flax==0.12.12 ||
  "$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 flax==0.12.8 # Python 3.11
cat >"$folder/run.py" <<'PYTHON'
import functools

import jax
import jax.numpy as jnp
from flax import nnx

layer, x = nnx.Linear(2, 2, rngs=nnx.Rngs(0)), jnp.ones((1, 2))


def total(layer, x, *, train):
  return (layer(x) * (2 if train else 1)).sum()


def flag_set(layer, x):
  return total(layer, x, train=True)


by_partial = functools.partial(total, train=True)
for name, transform in (("jit", nnx.jit), ("grad", nnx.grad), ("remat", nnx.remat)):
  for how, function in (("function", flag_set), ("partial", by_partial)):
    try:
      transform(function)(layer, x)
      print(name, how, "works")
    except TypeError as error:
      print(name, how, "TypeError:", error)
jax.checkpoint(functools.partial(lambda x, *, train: x * train, train=2))(x)
print("jax.checkpoint partial works")
PYTHON
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/run.py" | tee "$folder/seen"
for line in "jit partial works" "grad partial works" "remat function works" \
  "jax.checkpoint partial works" "remat partial TypeError: keyword arguments could not be resolved"; do
  grep -q "^$line" "$folder/seen"
done
