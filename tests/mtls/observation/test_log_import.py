"""Importing logs: every line once, and only into ingresses one may configure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
import pytest_asyncio
from sqlalchemy import func, select
from tests.support.authority import OPERATOR
from tests.support.identities import issue, make_service

from intaglio.core.errors import Forbidden, IntaglioError, InvalidInput, NotFound, StateConflict
from intaglio.core.principal import Principal
from intaglio.mtls.access.ingress_values import NewIngress
from intaglio.mtls.access.ingresses import create_ingress
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.values import TrustDomain
from intaglio.mtls.observation.importing import Chunk, Imported, import_chunk, import_position
from intaglio.mtls.observation.models import access_event


@pytest_asyncio.fixture
async def ingress(mtls: Mtls, trust_domain: TrustDomain) -> str:
    made = await create_ingress(mtls, OPERATOR, NewIngress("edge", "demo", trust_domain.name))
    return made.ingress.full_name


def line(number: int = 0, **changes: object) -> str:
    """A line of the rendered nginx log format."""
    said = {
        "log": "intaglio-nginx", "time": f"1795248{number:03d}.123", "mode": "enforce", "decided": "here",
        "source": "192.0.2.7", "verify": "SUCCESS", "serial": "", "subject": "CN=somebody", "status": "200",
        "method": "GET", "path": f"/{number}",
    }  # fmt: skip
    return json.dumps(said | changes) + "\n"


def chunk(text: str, offset: int = 0, before: str = "", first: str | None = None) -> Chunk:
    """The chunk of a log that begins with ``first`` (default: with this chunk)."""
    lines = text.splitlines(keepends=True)
    return Chunk(
        format="nginx", source=_digest(first or lines[0]), offset=offset, octets=len(text.encode()),
        before=_digest(before) if before else b"", after=_digest(lines[-1]), text=text,
    )  # fmt: skip


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


async def imported(mtls: Mtls, ingress: str, given: Chunk) -> Imported:
    return await import_chunk(mtls, OPERATOR, ingress, given)


async def events(mtls: Mtls) -> int:
    async with mtls.database.read() as view:
        return int(await view.scalar(select(func.count()).select_from(access_event)))


async def test_a_caller_is_recognised_by_the_serial_number_of_his_certificate(mtls: Mtls, ingress: str) -> None:
    issued = await issue(mtls, await make_service(mtls))
    serial = issued.serial.hex().upper()
    revoked = line(1, serial=serial, verify="FAILED:certificate revoked", status="400")
    await imported(mtls, ingress, chunk(line(0, serial=serial) + revoked))
    async with mtls.database.read() as view:
        good, bad = await view.all(select(access_event).order_by(access_event.c.at))
    assert good["identity"] == good["claimed"] == issued.identity.uri
    assert (good["decision"], good["reason"], good["recorder"], good["ingress"]) == ("allow", "", "import", ingress)
    assert (bad["identity"], bad["claimed"]) == ("", issued.identity.uri)
    assert (bad["decision"], bad["reason"]) == ("deny", "revoked")


async def test_a_log_that_is_imported_again_changes_nothing(mtls: Mtls, ingress: str) -> None:
    whole = chunk(line(0) + line(1))
    assert (await imported(mtls, ingress, whole)).events == 2
    again = await imported(mtls, ingress, whole)
    assert (again.events, again.skipped) == (0, 2)
    assert await events(mtls) == 2


async def test_a_log_that_has_grown_goes_on_where_it_ended(mtls: Mtls, ingress: str) -> None:
    first = line(0)
    await imported(mtls, ingress, chunk(first))
    position = await import_position(mtls, OPERATOR, ingress, _digest(first))
    assert (position.offset, position.last) == (len(first), _digest(first))
    grown = await imported(mtls, ingress, chunk(line(1), position.offset, before=first, first=first))
    assert grown.events == 1
    assert await events(mtls) == 2


async def test_a_gap_and_another_log_with_the_same_beginning_are_refused(mtls: Mtls, ingress: str) -> None:
    first = line(0)
    await imported(mtls, ingress, chunk(first))
    for offset, before, code in ((len(first) + 5, first, "log-out-of-order"), (len(first), line(7), "log-differs")):
        with pytest.raises(StateConflict) as refused:
            await imported(mtls, ingress, chunk(line(1), offset, before=before, first=first))
        assert refused.value.code == code
    assert await events(mtls) == 1


async def test_bad_lines_are_counted_and_shown_and_the_others_count(mtls: Mtls, ingress: str) -> None:
    found = await imported(mtls, ingress, chunk(line(0) + "garbage\n" + "\n" + line(1) + '{"time": "x"}\n'))
    assert (found.lines, found.events, found.skipped, found.bad) == (5, 2, 1, 2)
    assert [bad.line for bad in found.shown] == [2, 5]
    assert all(bad.why for bad in found.shown)


async def test_the_same_log_may_be_imported_for_two_ingresses(mtls: Mtls, ingress: str) -> None:
    other = await create_ingress(mtls, OPERATOR, NewIngress("other", "demo", "prod.example"))
    for name in (ingress, other.ingress.full_name):
        assert (await imported(mtls, name, chunk(line(0)))).events == 1


async def test_who_may_not_configure_ingresses_cannot_write_their_history(mtls: Mtls, ingress: str) -> None:
    stranger = Principal("user", "mallory")
    with pytest.raises(Forbidden):
        await import_chunk(mtls, stranger, ingress, chunk(line(0)))
    with pytest.raises(Forbidden):
        await import_position(mtls, stranger, ingress, b"\0" * 32)
    with pytest.raises(NotFound):
        await imported(mtls, "demo~nothing", chunk(line(0)))
    assert await events(mtls) == 0


@pytest.mark.parametrize(
    "change",
    [{"format": "iis"}, {"source": b"x"}, {"after": b""}, {"octets": 0}, {"offset": -1}, {"text": "\n" * 20_001}],
)
async def test_a_chunk_that_is_none_is_refused(mtls: Mtls, ingress: str, change: dict[str, object]) -> None:
    with pytest.raises(IntaglioError) as refused:
        await imported(mtls, ingress, replace(chunk(line(0)), **change))  # type: ignore[arg-type]
    assert isinstance(refused.value, InvalidInput) or refused.value.code == "chunk-too-large"
