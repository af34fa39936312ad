"""Fails tests that are skipped, but for a missing GPU, where ALPHAECOLI_NO_SKIPS is set."""

import os

import pytest


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
  if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("ALPHAECOLI_NO_SKIPS"):
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"ALPHAECOLI_NO_SKIPS is set, but {report.nodeid} was skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
  report = yield
  if not item.get_closest_marker("gpu"):
    _refuse(report)
  return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
  report = yield
  _refuse(report)  # a module that skips itself
  return report
