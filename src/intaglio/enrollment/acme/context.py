"""What serving ACME takes in one process: nonces, validators, and the work that goes on after an answer."""

from __future__ import annotations

from uuid import UUID

from intaglio.core.identifiers import new_id
from intaglio.core.outgoing import Guard
from intaglio.enrollment.acme.admission import Admission
from intaglio.enrollment.acme.leases import Running
from intaglio.enrollment.acme.nonces import Nonces
from intaglio.enrollment.acme.options import AcmeOptions
from intaglio.enrollment.acme.statements import Statements
from intaglio.enrollment.acme.validation import Validator
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.settings import EnrollmentSettings
from intaglio.enrollment.values import Endpoint
from intaglio.platform import live_settings, outgoing

_MOST_VALIDATORS = 1000


class Acme:
    """The state of one process. ``holder`` names the process in leases."""

    def __init__(self, enrollment: Enrollment) -> None:
        self.enrollment = enrollment
        self.holder = new_id()
        self.nonces = Nonces(enrollment.database)
        self.admission = Admission(enrollment.database, self.nonces)
        self.statements = Statements(enrollment.database)
        self.running = Running(enrollment.database, self.holder)
        self._known: tuple[int, EnrollmentSettings, Guard] | None = None
        self._validators: dict[UUID, tuple[AcmeOptions, Guard, Validator]] = {}

    async def live(self) -> EnrollmentSettings:
        """The settings of enrolment in force. Raises Unavailable, TimedOut."""
        return (await self._settings())[0]

    async def guard(self) -> Guard:
        """Which addresses may be connected to. Raises Unavailable, TimedOut."""
        return (await self._settings())[1]

    async def _settings(self) -> tuple[EnrollmentSettings, Guard]:
        """Read again after every change of configuration."""
        epoch = (await self.enrollment.gateway.snapshot()).epoch
        known = self._known
        if known is None or known[0] < epoch:
            async with self.enrollment.database.read() as view:
                live = await live_settings.current(view, EnrollmentSettings)
                known = self._known = epoch, live, await outgoing.guard_of(view)
        return known[1:]

    async def validator(self, endpoint: Endpoint) -> Validator:
        """What validates challenges by the options of the endpoint and the networks of the operator.

        Raises Unavailable, TimedOut.
        """
        guard = await self.guard()
        options = options_of(endpoint)
        kept = self._validators.get(endpoint.id)
        if kept is not None and kept[:2] == (options, guard):
            return kept[2]
        if len(self._validators) >= _MOST_VALIDATORS:
            self._validators.clear()
        made = Validator(options.validation, guard)
        self._validators[endpoint.id] = options, guard, made
        return made

    async def close(self) -> None:
        """End what is under way so that another process takes it up at once."""
        await self.running.close()
        await self.admission.close()
        await self.statements.close()


def options_of(endpoint: Endpoint) -> AcmeOptions:
    """The options of an endpoint of this protocol."""
    options = endpoint.options
    assert isinstance(options, AcmeOptions), "an endpoint of ACME"
    return options
