"""What answers on the public listener: OCSP, CRLs and CA certificates here; timestamps, SCEP and CMP there."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from intaglio.server import enrollment
from intaglio.server.enrollment import EnrollmentProtocols
from intaglio.server.prompt import Answered, AtOnce
from intaglio.server.services import Services
from intaglio.server.timestamping import Timestamping, is_wanted
from intaglio.validation.api import public_app
from intaglio.validation.conditional import NOT_FOUND

_VALIDATION = frozenset({"ocsp", "crl"})
_TIMESTAMPS = "/tsa/"


class PublicListener:
    """ASGI application of one process. Of what the setting ``only`` leaves out, everything is 404."""

    def __init__(self, services: Services) -> None:
        only = frozenset(services.settings.only)
        self._validation: ASGIApp = _nothing
        self._status_at_once: AtOnce | None = None
        self._timestamping: Timestamping | None = None
        self._enrollment: EnrollmentProtocols | None = None
        if not only or only & _VALIDATION:
            validation = public_app(services.authority, services.watch)
            services.on_stop(validation.close)
            self._validation, self._status_at_once = validation, validation.at_once
        if is_wanted(services.settings):
            self._timestamping = services.timestamping
        if enrollment.is_wanted(services.settings):
            self._enrollment = EnrollmentProtocols(services, plain=True)

    def at_once(self, scope: Scope, body: bytes) -> Answered | None:
        """A timestamp or an OCSP answer that can be given without waiting; None: call."""
        if not scope["path"].startswith(_TIMESTAMPS):
            return None if self._status_at_once is None else self._status_at_once(scope, body)
        timestamping = self._timestamping
        if timestamping is None or timestamping.app is None:
            return None
        scope["intaglio.route"] = "/tsa"
        return timestamping.app.at_once(scope, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_TIMESTAMPS):
            scope["intaglio.route"] = "/tsa"  # for the metrics of the listener
            timestamping = self._timestamping
            answering = _nothing if timestamping is None else timestamping.app or timestamping
            await answering(scope, receive, send)
        else:
            protocol = None if self._enrollment is None else self._enrollment.of(scope)
            await (protocol or self._validation)(scope, receive, send)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await NOT_FOUND.send(send, 404, head=scope["method"] == "HEAD")
