#!/usr/bin/env bash
# jax 0.10.2 (jaxlib 0.10.2), CPU: a jitted convolution and its gradient are silently wrong when
# positions are split over one mesh axis and the kernel over another. One would expect the numbers of
# one device, whatever the shardings. Seen, as multiples of the true values, with a kernel of five
# positions on a mesh of kernel 2 x position 2:
# - kernel split by input channels: output 2, gradient of the kernel 4 (2 x 4 devices: 4 and 8);
# - kernel split by output channels: output 1, gradient of the kernel 2;
# - kernel gathered by with_sharding_constraint before the convolution: output 1, gradient still 2;
# - gathered, and windows split over the kernel's axis too (as with fully sharded data): 1 and 1.
# The older partitioner (jax_use_shardy_partitioner=False) gives the same output, and jax 0.12.0.1 the
# same gradient of the input. Kernels of one position are right. Related: jax issue 16894 (strides).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy
cat >"$folder/run.py" <<'PYTHON'
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

rng = np.random.default_rng(0)
x = rng.normal(size=(2, 64, 256)).astype(np.float32)  # windows, positions, channels
kernel = rng.normal(size=(5, 256, 256)).astype(np.float32) / 36  # width, input, output channels


def convolve(x, kernel):
  return jax.lax.conv_general_dilated(
    x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
  )


def ratios(shape, kernel_spec, gather=False, windows=None):
  """Returns the median of split / unsplit values: output, and gradient of the kernel."""
  devices = np.array(jax.devices()[: shape[0] * shape[1]]).reshape(shape)
  mesh = Mesh(devices, ("kernel", "position"))

  def forward(x, kernel):
    if gather:
      kernel = jax.lax.with_sharding_constraint(kernel, NamedSharding(mesh, PartitionSpec()))
    return convolve(x, kernel)

  gradient = jax.grad(lambda kernel, x: (forward(x, kernel) ** 2).sum())
  true = convolve(x, kernel), jax.grad(lambda k: (convolve(x, k) ** 2).sum())(kernel)
  split_x = jax.device_put(x, NamedSharding(mesh, PartitionSpec(windows, "position")))
  split_kernel = jax.device_put(kernel, NamedSharding(mesh, kernel_spec))
  found = jax.jit(forward)(split_x, split_kernel), jax.jit(gradient)(split_kernel, split_x)
  return [round(float(np.median(np.asarray(f) / np.asarray(t))), 3) for f, t in zip(found, true)]


inputs, outputs = PartitionSpec(None, "kernel"), PartitionSpec(None, None, "kernel")
print("input channels split, 2 x 2:", *ratios((2, 2), inputs))
print("input channels split, 2 x 4:", *ratios((2, 4), inputs))
print("output channels split, 2 x 2:", *ratios((2, 2), outputs))
print("gathered first, 2 x 2:", *ratios((2, 2), inputs, gather=True))
print("and windows split, 2 x 2:", *ratios((2, 2), inputs, gather=True, windows="kernel"))
PYTHON
JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=8 \
  "$folder/venv/bin/python" "$folder/run.py" 2>"$folder/log" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
input channels split, 2 x 2: 2.0 4.0
input channels split, 2 x 4: 4.0 8.0
output channels split, 2 x 2: 1.0 2.0
gathered first, 2 x 2: 1.0 2.0
and windows split, 2 x 2: 1.0 1.0
SEEN
echo "as described"
