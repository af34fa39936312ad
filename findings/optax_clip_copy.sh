#!/usr/bin/env bash
# optax 0.2.8, jax 0.10.2: clip_by_global_norm before scale_by_adam, in one jitted step whose state is
# donated. One would guess that XLA scales each gradient where Adam reads it. Seen: optax divides by the
# norm, a division is not computed twice, and a scaled copy of all gradients is held beside them; one
# factor (min(1, limit / norm)) that multiplies them needs no such copy.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "jax==0.10.2" "jaxlib==0.10.2" "optax==0.2.8"
cat >"$folder/run.py" <<'PYTHON'
import jax
import jax.numpy as jnp
import optax


def by_factor(limit):
  def clip(updates, _):
    factor = jnp.minimum(1, limit / optax.tree.norm(updates))
    return jax.tree.map(lambda x: x * factor, updates)

  return optax.stateless(clip)


def copies(clip):
  optimizer = optax.chain(clip, optax.scale_by_adam(), optax.scale(-1e-3))

  def step(params, state, grads):
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  params = [jax.ShapeDtypeStruct((1024, 1024), jnp.float32)] * 8
  state = jax.eval_shape(optimizer.init, params)
  compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params).compile()
  return compiled.memory_analysis().temp_size_in_bytes / sum(4 * x.size for x in params)


print("temporaries, in gradients: optax", round(copies(optax.clip_by_global_norm(1.0)), 1))
print("temporaries, in gradients: one factor", round(copies(by_factor(1.0)), 1))
PYTHON
cd "$folder"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" run.py | tee seen
diff seen - <<'SEEN'
temporaries, in gradients: optax 1.0
temporaries, in gradients: one factor 0.0
SEEN
echo "as described"
