#!/usr/bin/env bash
# optax 0.2.8: functions of the parameters that optax.partition and optax.contrib.muon take see other
# things than parameters, so that natural ones fail.
# muon's `muon_weight_dimension_numbers` and partition's `param_labels` "take the params". One would
# guess that they always get the tree that init got. Seen: optax.tree_map_params, the way to find a
# state's moments (to shard them as their parameters), calls them with a placeholder that has no
# items; and muon calls its own `weight_decay_mask`, and the dimension numbers in each update, with a
# tree in which the parameters of the other rule are MaskedNode, which has no `ndim`. Only functions
# that are tree maps (jax.tree.map skips MaskedNode, and takes the placeholder for a leaf) work.
# By contrast a state's moments can be told by their path, which ends with the parameter's name.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 optax==0.2.8
cat >"$folder/run.py" <<'PYTHON'
import jax.numpy as jnp
import optax
from optax import contrib

params = {"layer/kernel": jnp.ones((4, 3)), "layer/bias": jnp.ones(3)}


def labels(params):
  return {name: "matrix" if value.ndim == 2 else "other" for name, value in params.items()}


def mask(params):
  return {name: value.ndim == 2 for name, value in params.items()}


def tried(what, run):
  try:
    run()
    print(what, "works")
  except AttributeError as error:
    print(what, error)


adam = optax.adam(1e-3)
parted = optax.partition({"matrix": optax.scale_by_adam(), "other": optax.identity()}, labels)
decayed = contrib.muon(1e-3, weight_decay=0.1, weight_decay_mask=mask)
tried("adam, tree_map_params:", lambda: optax.tree_map_params(adam, abs, adam.init(params)))
tried("partition, init:", lambda: parted.init(params))
state = parted.init(params)
tried("partition, tree_map_params:", lambda: optax.tree_map_params(parted, abs, state))
tried("adamw with the mask, init:", lambda: optax.adamw(1e-3, mask=mask).init(params))
tried("muon with the mask, init:", lambda: decayed.init(params))
PYTHON
JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/run.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
adam, tree_map_params: works
partition, init: works
partition, tree_map_params: '_ParamsPlaceholder' object has no attribute 'items'
adamw with the mask, init: works
muon with the mask, init: 'MaskedNode' object has no attribute 'ndim'
SEEN
echo "as described"
