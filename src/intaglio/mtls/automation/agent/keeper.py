"""The agent's work, over and over: is it time? ask; is there a new one? put it in place; has the program been told?

Whatever fails, the last good certificate stays where it is, and the attempt is repeated, ever more slowly. Only a
refusal that somebody has to do something about ends the agent.
"""

from __future__ import annotations

import random
import secrets
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from intaglio.core.errors import IntaglioError
from intaglio.mtls.automation.agent import asking, hook, reporting, timing
from intaglio.mtls.automation.agent.asking import Refusal
from intaglio.mtls.automation.agent.hook import ReloadFailed
from intaglio.mtls.automation.agent.options import Options
from intaglio.mtls.automation.agent.reporting import log, notify
from intaglio.mtls.automation.agent.store import Store, Version
from intaglio.mtls.automation.agent.timing import Health, ServerClock, health

_LOOK = 30.0  # seconds after which it looks again in any case: metrics, alarms, the watchdog
_SEVERITY = {Health.GOOD: 0, Health.OVERDUE: 1, Health.CRITICAL: 2, Health.EXPIRED: 3, Health.NONE: 4}
#: Refusals of a certificate that no renewal overcomes.
_ENDED = frozenset({"revoked", "binding-unknown"})
_LEVEL = {Health.OVERDUE: "warning", Health.CRITICAL: "error", Health.EXPIRED: "critical", Health.NONE: "critical"}


@dataclass
class _Trouble:
    """What fails in a row, and when it is tried again."""

    count: int = 0
    total: int = 0
    again_at: datetime | None = None
    reason: str = ""

    def failed(self, now: datetime, wait: float, reason: str) -> None:
        self.count, self.total, self.reason = self.count + 1, self.total + 1, reason
        self.again_at = now + timedelta(seconds=wait)

    def over(self) -> None:
        self.count, self.again_at, self.reason = 0, None, ""


@dataclass
class Keeper:
    """One agent. :meth:`run` works until :meth:`stop`, :meth:`renew_now` makes it ask at once."""

    options: Options
    chance: random.Random = field(default_factory=lambda: random.Random(secrets.randbits(64)))  # noqa: S311 - spreads load

    def __post_init__(self) -> None:
        self.store = Store(self.options.out)
        self.clock = ServerClock()
        self.version: Version | None = None
        self.renew_at: datetime | None = None
        self.renewals = 0
        self.asking, self.reloading = _Trouble(), _Trouble()
        self.reload_pending = False
        self._health = Health.GOOD
        self._revoked = False  # the certificate in use: it proves nothing, only a new proof begins anew
        self._ready = self._stopped = self._now_please = False
        self._wake = threading.Event()

    def run(self, *, once: bool = False) -> None:
        """Keep the certificate until told to stop; with ``once`` until it is fresh and the program was told.

        Raises StateConflict (``folder-in-use``), Refusal, Unavailable (the folder), with ``once`` whatever fails.
        """
        self.options.check()
        self.store.prepare()
        with self.store.locked(), reporting.metrics_served(self.options.metrics, self.metrics) as address:
            if address is not None:
                log("info", "metrics can be read", address=f"{address[0]}:{address[1]}")
            self._take_up()
            log("info", "started", identity=self.options.identity, directory=str(self.options.out))
            while not self._stopped:
                self._step(once)
                if once and self._is_done():
                    break
                self._wake.wait(self._pause())
                self._wake.clear()
            notify(stopping="1")
            log("info", "stopped")

    def stop(self) -> None:
        """End after what is going on at the moment."""
        self._stopped = True
        self._wake.set()

    def renew_now(self) -> None:
        """Ask for a certificate at once, whatever the time."""
        self._now_please = True
        self._wake.set()

    def metrics(self) -> str:
        """The state as Prometheus reads it."""
        now, version = self.clock.now(), self.version
        values: dict[str, float] = {}
        if version is not None:
            ends = version.validity.not_after
            values["certificate_not_after_seconds"] = ends.timestamp()
            values["certificate_left_seconds"] = (ends - now).total_seconds()
        values["certificate_health"] = _SEVERITY[health(version.validity if version else None, now)]
        if (due := self._next()) is not None:
            values["next_attempt_seconds"] = due.timestamp()
        values |= {
            "renewals_total": self.renewals,
            "failures_total": self.asking.total,
            "failures_in_a_row": self.asking.count,
            "reload_failures_total": self.reloading.total,
            "reload_pending": float(self.reload_pending),
            "clock_skew_seconds": self.clock.skew.total_seconds(),
        }
        return reporting.metrics_text(values, version.identity if version else self.options.identity)

    def _take_up(self) -> None:
        """Go on where the last run ended."""
        self.version = self.store.version()
        if self.version is None or not asking.is_named(self.version.identity, self.options.identity):
            return
        state = self.store.read_state()
        self.reload_pending = bool(state.get("reload_pending"))
        if state.get("revoked") == self.version.serial:
            log("warning", "the certificate was revoked; bootstrapping anew", serial=self.version.serial)
            self._revoked = True
            return
        self.renew_at = timing.renewal_time(self.version.validity, self.chance)

    def _step(self, once: bool) -> None:
        now = self.clock.now()
        if self._now_please or (due := self._due()) is None or due <= now:
            self._now_please = False
            self._attempt(once)
        if self.reload_pending and (self.reloading.again_at is None or self.reloading.again_at <= self.clock.now()):
            self._reload(once)
        self._tell()

    def _attempt(self, once: bool) -> None:
        """Ask once. Raises Refusal; with ``once`` everything."""
        try:
            self._renew()
        except Refusal as error:
            log("critical", "the server refuses; somebody has to do something", code=error.code, reason=str(error))
            self._revoked = self._revoked or error.code in _ENDED
            self.store.forget_pending()
            self.asking.failed(self.clock.now(), timing.LONGEST_WAIT, str(error))
            self._tell(refused=error.code)
            raise
        except IntaglioError as error:
            wait = float(error.retry_after or timing.wait_after(self.asking.count + 1, self.chance))
            self.asking.failed(self.clock.now(), wait, str(error))
            log("error", "no certificate", code=error.code, reason=str(error), again_in_seconds=round(wait, 1))
            if once:
                raise

    def _renew(self) -> None:
        holder = self._holder()
        pending = self.store.pending_key() if holder is None else None
        key = pending or asking.new_key()
        if holder is None and pending is None:
            self.store.keep_pending(key)
        answer = asking.ask(self.options, key, holder)
        if answer.server_time is not None:
            self.clock.heard(answer.server_time)
            if abs(self.clock.skew) > timing.SKEW_WORTH_TELLING:
                log("warning", "the clock of this machine is wrong", seconds=round(self.clock.skew.total_seconds()))
        self.version = self.store.install(answer.files, answer.about)
        self.renew_at = timing.renewal_time(self.version.validity, self.chance)
        self.renewals += 1
        self.reload_pending, self._revoked = bool(self.options.reload), False
        self.asking.over()
        self.reloading.over()
        log("info", "certificate in place", next=reporting.shown(self.renew_at), **answer.about)

    def _holder(self) -> Version | None:
        """The certificate that proves who this is, if it still does."""
        version = self.version
        if version is None or self._revoked or not asking.is_named(version.identity, self.options.identity):
            return None
        if health(version.validity, self.clock.now()) is Health.EXPIRED:
            return None
        return None if self.options.jwt_file else version

    def _reload(self, once: bool) -> None:
        assert self.version is not None
        if not self.options.reload:
            self.reload_pending = False
            return
        try:
            hook.reload(self.options.reload, self.options.reload_timeout, self.store, self.version)
        except ReloadFailed as error:
            wait = timing.wait_after(self.reloading.count + 1, self.chance)
            self.reloading.failed(self.clock.now(), wait, str(error))
            log("error", "the reload failed", reason=str(error), again_in_seconds=round(wait, 1))
            if once:
                raise
        else:
            self.reload_pending = False
            self.reloading.over()
            log("info", "reloaded", command=self.options.reload[0])

    def _tell(self, refused: str = "") -> None:
        """State file, metrics file, service manager, and the log when it got better or worse."""
        now, version = self.clock.now(), self.version
        found = health(version.validity if version else None, now)
        if found is not self._health and found in _LEVEL:
            ends = reporting.shown(version.validity.not_after) if version else None
            log(_LEVEL[found], f"the certificate is {found}", not_after=ends, reason=self.asking.reason)
        self._health = found
        self.store.write_state(self._state(now, refused))
        if self.options.metrics_file is not None:
            reporting.write_metrics(self.options.metrics_file, self.metrics())
        if not self._ready and version is not None and found is not Health.EXPIRED and not self.reload_pending:
            self._ready = True
            notify(ready="1")
        notify(watchdog="1", status=f"certificate {found}, next attempt {reporting.shown(self._next())}")

    def _state(self, now: datetime, refused: str) -> dict[str, Any]:
        version = self.version
        return {
            "at": reporting.shown(now),
            "identity": version.identity if version else self.options.identity,
            "serial": version.serial if version else "",
            "next_attempt": reporting.shown(self._next()),
            "failures_in_a_row": self.asking.count,
            "reason": self.asking.reason,
            "refused": refused,
            "revoked": version.serial if version and self._revoked else "",
            "reload_pending": self.reload_pending,
            "reload_reason": self.reloading.reason,
            "clock_skew_seconds": round(self.clock.skew.total_seconds()),
        }

    def _due(self) -> datetime | None:
        """When to ask; None for now."""
        return self.asking.again_at or self.renew_at

    def _next(self) -> datetime | None:
        times = [self._due(), self.reloading.again_at if self.reload_pending else None]
        return min((each for each in times if each is not None), default=None)

    def _pause(self) -> float:
        due = self._next()
        left = _LOOK if due is None else (due - self.clock.now()).total_seconds()
        return min(_LOOK, max(0.05, left))

    def _is_done(self) -> bool:
        return self.version is not None and not self.asking.count and not self.reload_pending
