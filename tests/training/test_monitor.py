import logging

import jax.numpy as jnp
import numpy as np
import pytest

from alphaecoli.errors import UserError
from alphaecoli.training.monitor import Watch


def _figures(**changes):
  values = {
    "loss/total": 2.0,
    "loss/gene_density": 2.0,
    "grad_norm": 1.0,
    "known/gene_density": 8.0,
    "output_std/gene_density": 0.5,
    "stats_finite": 1.0,
  }
  values |= {name.replace("__", "/"): value for name, value in changes.items()}
  arrays = {name: jnp.float32(value) for name, value in values.items()}
  return {**arrays, "start": jnp.array([5, 70]), "reverse": jnp.array([False, True])}


def test_summary_has_the_last_step_and_the_mean_over_all():
  watch = Watch()
  for step, loss in enumerate([1.0, 2.0, 6.0], start=1):
    watch.add(step, _figures(loss__gene_density=loss))
  watch.check("")
  summary = watch.summary()
  assert summary["loss/gene_density"] == 6 and summary["mean_loss/gene_density"] == 3
  watch.add(4, _figures(loss__gene_density=8.0))
  watch.check("")
  assert watch.summary()["mean_loss/gene_density"] == 8


def test_the_first_bad_step_is_the_one_named():
  watch = Watch()
  watch.add(1, _figures())
  watch.add(2, _figures(loss__gene_density=np.nan, loss__total=np.nan))
  watch.add(3, _figures(loss__gene_density=np.inf, loss__total=np.nan))
  expected = r"loss of gene_density is nan at step 2; windows \(start, strand\) 5\+, 70-; .*; last"
  with pytest.raises(UserError, match=expected):
    watch.check("last good: 0")


def test_a_gradient_that_is_not_finite_stops_the_run_though_the_losses_are():
  watch = Watch()
  watch.add(9, _figures(grad_norm=np.inf))
  with pytest.raises(UserError, match="grad_norm is inf at step 9"):
    watch.check("")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"known__gene_density": 0.0}, "no window so far has a known target"),
    ({"output_std__gene_density": 0.0}, "output is constant"),
    ({"stats_finite": 0.0}, "running statistics are not finite"),
  ],
  ids=["nothing known", "constant head", "statistics"],
)
def test_what_makes_a_run_useless_is_said_once(caplog, change, message):
  caplog.set_level(logging.WARNING, "alphaecoli")
  watch = Watch()
  for step in (1, 2):
    watch.add(step, _figures(**change))
    watch.check("")
    watch.summary()
  assert [message in record.message for record in caplog.records] == [True]


def test_a_healthy_run_gives_no_warning(caplog):
  caplog.set_level(logging.WARNING, "alphaecoli")
  watch = Watch()
  watch.add(1, _figures())
  watch.check("")
  watch.summary()
  assert not caplog.records


def test_every_step_is_reported_once_in_order_and_two_may_be_under_way():
  ended = []
  watch = Watch(None, ended.append)
  for step in range(1, 5):
    watch.add(step, _figures())
  assert ended == [1, 2]
  watch.check("")
  assert ended == [1, 2, 3, 4]
  watch.add(5, _figures())
  watch.check("")
  assert ended == [1, 2, 3, 4, 5]
