"""What holds for every test: property tests that repeat exactly, and no test that silently does not run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    f"tests.support.{name}" for name in ("database", "authority", "identities", "passwords", "product", "pki")
]

# Deterministic and without a deadline: a slow or busy machine must not turn a correct program red. The long profile
# looks for new counterexamples: HYPOTHESIS_PROFILE=long scripts/test tests/x509
settings.register_profile(
    "default", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("long", settings.get_profile("default"), derandomize=False, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


#: Folders whose tests start programs and wait for them: they come first, so that no long file is left for the end of a
#: run, when the other processes have nothing to do any more.
_LONG = ("interop", "integration", "browser", "cli", "console", "server", "db")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long folders first; the order of tests within a file stays."""
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0] if here in item.path.parents else ""
        return _LONG.index(folder) if folder in _LONG else len(_LONG)

    items.sort(key=place)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test proves nothing, so a run with one fails; what a test needs is installed, not wished for."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("Tests were skipped, so this run counts as failed.", red=True)
