"""What every test file shares: tests that need root or a tool are skipped with the reason, and the closing line of the run."""

import os
import sys

import pytest


def pytest_collection_modifyitems(items):
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: makes network namespaces")
    for item in items:
        if item.get_closest_marker("netns"):
            item.add_marker(skip)


def closing_line(stats) -> str:
    """`N passed, N failed[, N skipped]` of a terminal reporter's stats; errors count as failures, expected failures as passed."""
    count = {name: len(reports) for name, reports in stats.items()}
    passed = count.get("passed", 0) + count.get("xfailed", 0)
    failed = count.get("failed", 0) + count.get("error", 0) + count.get("xpassed", 0)
    skipped = count.get("skipped", 0)
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def pytest_unconfigure(config):
    """After pytest's own summary: the line that CI reads, alone."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats and not hasattr(config, "workerinput"):
        sys.stdout.flush()
        reporter._tw.line(closing_line(reporter.stats))
