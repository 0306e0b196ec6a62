"""The management API as commands see it: one call per request, refusals as the same errors the server raised."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from intaglio import __version__
from intaglio.cli.connection import Connection
from intaglio.cli.files import read_text
from intaglio.cli.logins import stored_token
from intaglio.core import errors
from intaglio.core.errors import IntaglioError, InvalidInput, Unavailable

_PREFIX = "/api/v1"
_OWN_PREFIXES = ("/mtls/", "/enrol/", "/toolkit/")  # interfaces beside it, with paths of their own
_TIMEOUT = httpx.Timeout(120.0, connect=10.0)


class Client:
    """A connection to the management API of one server.

    Every method raises the refusal of the server as the matching IntaglioError, and Unavailable when the server cannot
    be reached.
    """

    def __init__(self, http: httpx.Client, where: str) -> None:
        self._http = http
        self._where = where

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, query=query)

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Any:
        return self.call("POST", path, body=body or {}, headers=headers, query=query)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.call("PATCH", path, body=body)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.call("PUT", path, body=body)

    def delete(self, path: str, **query: Any) -> Any:
        return self.call("DELETE", path, query=query)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer's JSON value, or its text when it is something else; None for an empty one."""
        with self._reachable():
            response = self._http.request(
                method,
                _address(path),
                json=None if body is None else {k: v for k, v in body.items() if v is not None},
                params=_query(query or {}),
                headers=headers,
            )
        _raise_refusal(response)
        if response.status_code == 204 or not response.content:
            return None
        is_json = response.headers.get("content-type", "").partition(";")[0].endswith("json")
        return response.json() if is_json else response.text

    def pages(self, path: str, *, most: int | None, **query: Any) -> Iterator[dict[str, Any]]:
        """The items of a list, page by page, at most ``most`` (None: all)."""
        cursor: str | None = None
        left = most
        while True:
            size = 200 if left is None else min(left, 200)
            page = self.get(path, **query, limit=size, cursor=cursor)
            yield from page["items"][:left]
            cursor = page.get("next_cursor")
            left = None if left is None else left - len(page["items"])
            if cursor is None or left == 0:
                return

    def as_bearer(self, token: str) -> Client:
        """The same server, asked in the name of this token's user."""
        self._http.headers["authorization"] = f"Bearer {token}"
        return self

    def lines(self, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Iterator[dict[str, Any]]:
        """An answer that grows: one JSON object per line, as it comes; a line with a problem is raised."""
        streamed = self._http.stream(
            "GET" if body is None else "POST",
            _address(path),
            json=body,
            params=_query(query),
            headers={"accept": "application/x-ndjson"},
            timeout=httpx.Timeout(None, connect=10.0),  # the answer may take long, as long as it moves
        )
        with self._reachable(), streamed as response:
            if response.is_error:
                response.read()
            _raise_refusal(response)
            for line in filter(None, response.iter_lines()):
                found = json.loads(line)
                if "problem" in found:
                    raise _refusal(found["problem"]["status"], found["problem"])
                yield found

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            reason = f": {error}" if str(error) else ""
            raise Unavailable(
                f"The server at {self._where} cannot be reached{reason}.",
                code="server-unreachable",
                remedy="Start it with `intaglio serve`, or name another one with --server or --data-dir. A server "
                "certificate from a private CA is trusted with --ca-file.",
            ) from None


def connect(connection: Connection, admin_socket: Callable[[], Path]) -> Client:
    """The client for the chosen server: ``--server`` or INTAGLIO_SERVER, else the unix socket of the data folder."""
    server = connection.server or os.environ.get("INTAGLIO_SERVER")
    headers = {"user-agent": f"intaglio/{__version__}", "accept": "application/json, text/plain"}
    if server is None:
        path = admin_socket()
        if token := _given_token(connection):
            headers["authorization"] = f"Bearer {token}"
        transport = httpx.HTTPTransport(uds=str(path))
        http = httpx.Client(transport=transport, base_url="http://localhost", headers=headers, timeout=_TIMEOUT)
        return Client(http, str(path))
    if not server.startswith("https://"):
        raise InvalidInput(f'The server "{server}" is not an https URL.', target="--server")
    if token := _given_token(connection) or stored_token(server):
        headers["authorization"] = f"Bearer {token}"
    trust = connection.ca_file or os.environ.get("INTAGLIO_CA_FILE")
    http = httpx.Client(base_url=server.rstrip("/"), headers=headers, timeout=_TIMEOUT, verify=_trust(trust))
    return Client(http, server)


def segment(text: str) -> str:
    """A value as one segment of a path."""
    return quote(text, safe="~")


def _address(path: str) -> str:
    return path if path.startswith(_OWN_PREFIXES) else _PREFIX + path


def _given_token(connection: Connection) -> str | None:
    if connection.token_file:
        return read_text(connection.token_file).strip()
    return os.environ.get("INTAGLIO_TOKEN", "").strip() or None


def _trust(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(Path(ca_file)) if ca_file else None)
    except (OSError, ssl.SSLError):
        raise InvalidInput(f"{ca_file} is not a readable file of PEM certificates.", target="--ca-file") from None


def _query(values: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in values.items() if value is not None and value != []}
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in shown.items()}


_BY_STATUS: dict[int, type[IntaglioError]] = {
    kind.status: kind
    for kind in (
        errors.InvalidInput, errors.Unauthenticated, errors.Forbidden, errors.NotFound, errors.StateConflict,
        errors.TooLarge, errors.Refused, errors.RateLimited, errors.NotSupported, errors.Unavailable, errors.TimedOut,
    )
}  # fmt: skip
_KNOWN = {"type", "title", "status", "detail", "code", "remedy", "errors", "target", "instance"}


def _raise_refusal(response: httpx.Response) -> None:
    if not response.is_error:
        return
    try:
        problem = response.json()
        detail, code = str(problem["detail"]), str(problem.get("code", "refused"))
    except (ValueError, KeyError, TypeError):
        raise Unavailable(
            f"The server answered {response.status_code} without saying why.",
            code="answer-unreadable",
            remedy="Is this the console address of an Intaglio server?",
        ) from None
    raise _refusal(response.status_code, {**problem, "detail": detail, "code": code})


def _refusal(status: int, problem: Mapping[str, Any]) -> IntaglioError:
    """The error a problem object was made from."""
    return _BY_STATUS.get(status, IntaglioError)(
        problem["detail"],
        code=problem["code"],
        remedy=str(problem.get("remedy", "")),
        target=problem.get("target"),
        fields=[(str(e.get("pointer", "")), str(e.get("message", ""))) for e in problem.get("errors", ())],
        extra={name: value for name, value in problem.items() if name not in _KNOWN},
    )
