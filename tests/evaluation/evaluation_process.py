"""One of several processes that evaluate together: takes its index, their number, a port."""

import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax


def main(index: int, count: int, port: int) -> None:
  address = f"127.0.0.1:{port}"
  jax.distributed.initialize(address, num_processes=count, process_id=index)
  from tests.evaluation.test_evaluator import Noisy, make_store, run

  store = make_store()
  noisy = Noisy(store)
  mesh = jax.make_mesh((jax.device_count(),), ("data",))
  where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  forward = jax.jit(lambda outputs: outputs, out_shardings=where)

  def predict(batch):
    """Outputs of the global batch, spread over the devices of all processes."""
    outputs = noisy(batch)
    return forward(
      {h: jax.make_array_from_process_local_data(where, v) for h, v in outputs.items()}
    )

  report = run(store, predict, batch_windows=2 * jax.device_count())
  print(json.dumps(report.to_json()))


if __name__ == "__main__":
  main(*map(int, sys.argv[1:]))
