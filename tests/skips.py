"""Says once a file why tests are skipped; fails them where ALPHAECOLI_NO_SKIPS is set, as in CI."""

import os

import pytest


def _tell(report: pytest.TestReport | pytest.CollectReport, may_skip: bool) -> None:
  """Drops the line from a skip, so that pytest's summary folds the skips of a file; or fails it."""
  if not (report.skipped and isinstance(report.longrepr, tuple)):
    return  # passed, failed, or an expected failure
  path, _, reason = report.longrepr
  report.longrepr = (path, None, reason)
  if os.environ.get("ALPHAECOLI_NO_SKIPS") and not may_skip:
    report.outcome = "failed"
    report.longrepr = f"ALPHAECOLI_NO_SKIPS is set, but {report.nodeid} was skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
  report = yield
  _tell(report, may_skip=item.get_closest_marker("gpu") is not None)
  return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
  report = yield
  _tell(report, may_skip=False)  # a module that skips itself
  return report
