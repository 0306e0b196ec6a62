"""Decisions of a server, asked over HTTPS with the token of a registered ingress.

Every request is asked about; nothing is remembered, so that there is nothing that could be out of date. The server says
at once when something changed that may end open connections (a long poll); when it is not heard, nobody passes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from intaglio.core.errors import Forbidden, IntaglioError, InvalidInput, Unavailable
from intaglio.core.logging import get_logger
from intaglio.mtls.proxy.config import ByServer, GatewayConfig
from intaglio.mtls.proxy.decisions import Asked, Caller, Mode, OnChange, Settings, Verdict
from intaglio.mtls.proxy.sources.files import identity_from, write_access_line
from intaglio.mtls.proxy.wire import LONGEST_WAIT, Changes, DecisionAnswer, DecisionRequest, GatewaySettings

log = get_logger(__name__)

_BASE = "/mtls/v1/gateway"
_PATIENCE = 5.0
_RETRY = 1.0
_UNKNOWN = Verdict(False, False, "status_unavailable", "Nothing can be decided at the moment.", status=503)

M = TypeVar("M", bound=BaseModel)
#: Makes the client that talks to the server.
MakeClient = Callable[[], httpx.AsyncClient]


class ServerSource:
    """A :class:`intaglio.mtls.proxy.decisions.Source` on another machine."""

    def __init__(self, config: GatewayConfig, decisions: ByServer, *, client: MakeClient | None = None) -> None:
        self._config, self._decisions = config, decisions
        self._http = (client or (lambda: _client(decisions)))()
        self._mode = Mode.ENFORCE
        self._state = ""
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, on_change: OnChange) -> None:
        self._state = (await self._ask(Changes, "GET", "/changes", params={"wait": 0})).state
        self._spawn(self._follow(on_change))

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    async def settings(self) -> Settings:
        found = await self._ask(GatewaySettings, "GET", "/settings")
        identity = identity_from(self._config)
        assert identity is not None  # the configuration was checked
        self._mode = found.strictness
        return Settings(identity, found.anchors, self._mode, self._decisions.refuse_in_handshake)

    async def decide(self, caller: Caller, asked: Asked, *, again: bool = False) -> Verdict:
        body = DecisionRequest.of(caller, asked, record=not again)
        try:
            return (await self._ask(DecisionAnswer, "POST", "/decisions", json=body)).verdict(again=again)
        except IntaglioError as error:
            log.warning("no access decision can be had", reason=str(error))
            return _UNKNOWN

    def record(self, caller: Caller, asked: Asked, verdict: Verdict, *, status: int | None) -> None:
        write_access_line(caller, asked, verdict, status)
        if verdict.evidence == "again":  # asked about without a record, because nothing was to come of it
            self._spawn(self.decide(caller, asked))

    async def _follow(self, on_change: OnChange) -> None:
        """Wait for changes; whenever the server was not heard, take it that there were some."""
        while True:
            try:
                query = {"since": self._state, "wait": LONGEST_WAIT}
                heard = await self._ask(Changes, "GET", "/changes", params=query, timeout=LONGEST_WAIT)
            except IntaglioError as error:
                log.warning("the server that decides cannot be heard", reason=str(error))
                await asyncio.sleep(_RETRY)
                heard = Changes(state="", changed=True)
            self._state = heard.state
            if heard.changed:
                await on_change()

    async def _ask(self, model: type[M], method: str, path: str, *, timeout: float = 0, **options: Any) -> M:
        """Ask the server. Raises Forbidden for a token that does not count, else Unavailable."""
        try:
            answer = await self._http.request(method, _BASE + path, timeout=_PATIENCE + timeout, **options)
            if answer.status_code in (401, 403):
                raise Forbidden(
                    "The server does not accept the token of the ingress.",
                    code="ingress-token-refused",
                    remedy="Give the ingress a new one: intaglio mtls ingress token",
                )
            answer.raise_for_status()
            return model.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise Unavailable(f"The server that decides does not answer: {reason}.", code="decision-server") from None

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def read_token(path: Path) -> str:
    """The token in a file. Raises Unavailable."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise Unavailable(f"{path} cannot be read: {error}.", code="token-file-unreadable") from None


def _client(decisions: ByServer) -> httpx.AsyncClient:
    try:
        context = ssl.create_default_context(cafile=str(decisions.ca) if decisions.ca else None)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"{decisions.ca} holds no certificates: {error}.", code="trust-file-invalid") from None
    token = read_token(decisions.token)
    return httpx.AsyncClient(
        base_url=decisions.server, verify=context, trust_env=False, headers={"authorization": f"Bearer {token}"}
    )
