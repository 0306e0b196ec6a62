"""How an agent is doing, read off its folder by somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intaglio.core import clock
from intaglio.mtls.automation.agent.reporting import shown
from intaglio.mtls.automation.agent.store import Store
from intaglio.mtls.automation.agent.timing import Health, health

#: Exit status: good, look soon, act now, nothing there.
EXIT = {Health.GOOD: 0, Health.OVERDUE: 1, Health.CRITICAL: 2, Health.EXPIRED: 2, Health.NONE: 3}


def status(folder: Path) -> tuple[dict[str, Any], int]:
    """What there is to say about the agent of ``folder``, and the exit status that sums it up. A refusal or a reload
    that fails is at least 1."""
    store = Store(folder)
    version, state = store.version(), store.read_state()
    found = health(version.validity if version else None, clock.now())
    told = {
        "health": found.value,
        "identity": version.identity if version else state.get("identity", ""),
        "serial": version.serial if version else "",
        "not_before": shown(version.validity.not_before) if version else None,
        "not_after": shown(version.validity.not_after) if version else None,
        "directory": str(store.current),
        **{name: state.get(name) for name in _FROM_STATE},
    }
    worst = EXIT[found]
    if state.get("refused"):
        worst = max(worst, 2)
    elif state.get("reload_pending") and state.get("reload_reason"):
        worst = max(worst, 1)
    return told, worst


_FROM_STATE = ("at", "next_attempt", "failures_in_a_row", "reason", "refused", "reload_pending", "reload_reason")
