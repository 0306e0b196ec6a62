"""How fast a change is visible, and what is said when nothing can be known."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import psycopg
import pytest
import pytest_asyncio
from cryptography.x509 import ocsp
from tests.support.authority import make_hierarchy
from tests.support.eventually import eventually
from tests.support.relying_party import issue_leaf, ocsp_request

from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView
from intaglio.authority.revocation import change_status, hold, revocation, unhold
from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.principal import SYSTEM
from intaglio.core.secrets import MasterKey
from intaglio.core.settings import Settings
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.keystore.service import KeyStore
from intaglio.validation.api import PublicApp, public_app
from intaglio.validation.ocsp import answers

_GOOD, _REVOKED = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED


@pytest.fixture
def administration(database_server: str) -> Iterator[psycopg.Connection[object]]:
    """A connection beside the test's database, to take that away from everybody."""
    url = urlunsplit(urlsplit(database_server)._replace(path="/postgres"))
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest_asyncio.fixture
async def elsewhere(database_url: str, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[PublicApp]:
    """The public listener of another process on the same database."""
    database, keystore = Database(database_url, pool_size=4), KeyStore(master_key)
    settings = Settings(data_dir=tmp_path, hostname="pki.example", public_url="http://pki.example")
    authority, watch = Authority(settings, database, keystore), Watch(database)
    await watch.start()
    app = public_app(authority, watch)
    yield app
    await app.close()
    await watch.stop()
    await database.close()
    keystore.close()


async def _status(app: PublicApp, request: bytes) -> ocsp.OCSPCertStatus | None:
    """The status by GET, as a cache would ask; None for anything but a successful answer."""
    answer = await _get(app, request)
    successful = answer.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    return answer.certificate_status if successful else None


async def _get(app: PublicApp, request: bytes) -> ocsp.OCSPResponse:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pki.example") as client:
        got = await client.get(f"/ocsp/demo/issuing/{quote(base64.b64encode(request), safe='')}")
    return ocsp.load_der_ocsp_response(got.content)


async def test_nothing_is_signed_while_the_clock_and_that_of_the_database_differ(
    authority: Authority, issuing: CaView, client: httpx.AsyncClient
) -> None:
    leaf = await issue_leaf(authority)

    async def asked(nonce: bytes) -> ocsp.OCSPResponseStatus:
        request = ocsp_request(leaf.der, issuing.certificate.der, nonce=nonce * 16)
        answered = await client.post("/ocsp/demo/issuing", content=request)
        return ocsp.load_der_ocsp_response(answered.content).response_status

    assert {await asked(nonce) for nonce in (b"1", b"2", b"3")} == {ocsp.OCSPResponseStatus.SUCCESSFUL}
    authority.clock_offset = lambda: 3600.0
    assert await asked(b"4") is ocsp.OCSPResponseStatus.TRY_LATER
    authority.clock_offset = lambda: 0.0
    assert await asked(b"5") is ocsp.OCSPResponseStatus.SUCCESSFUL


async def test_a_revocation_shows_on_another_process_within_a_second_although_it_had_cached_good(
    authority: Authority, issuing: CaView, elsewhere: PublicApp
) -> None:
    leaf, other = await issue_leaf(authority), await issue_leaf(authority, host="other.example")
    request = ocsp_request(leaf.der, issuing.certificate.der)
    unconcerned = ocsp_request(other.der, issuing.certificate.der)
    await eventually(lambda: _is_cached(elsewhere, request))
    await eventually(lambda: _is_cached(elsewhere, unconcerned))
    kept = await _get(elsewhere, unconcerned)
    await change_status(authority, SYSTEM, issuing, leaf.serial, revocation(RevocationReason.KEY_COMPROMISE))
    committed = monotonic()
    while await _status(elsewhere, request) is not _REVOKED:
        assert monotonic() - committed < 1.0
    await eventually(lambda: _is_the_same(elsewhere, unconcerned, kept))


async def _is_the_same(app: PublicApp, request: bytes, answer: ocsp.OCSPResponse) -> bool:
    return (await _get(app, request)).signature == answer.signature


async def _is_cached(app: PublicApp, request: bytes) -> bool:
    first, second = await _get(app, request), await _get(app, request)
    return first.signature == second.signature


async def test_a_revocation_does_not_keep_answers_about_others_from_being_cached(
    authority: Authority, issuing: CaView, public: PublicApp
) -> None:
    leaf, other = await issue_leaf(authority), await issue_leaf(authority, host="other.example")
    asked_before = ocsp_request(leaf.der, issuing.certificate.der, nonce=bytes(16))
    await eventually(lambda: _is(public, asked_before, _GOOD))
    await change_status(authority, SYSTEM, issuing, other.serial, revocation(RevocationReason.SUPERSEDED))
    await eventually(lambda: _is(public, ocsp_request(other.der, issuing.certificate.der), _REVOKED))
    await eventually(lambda: _is_cached(public, ocsp_request(leaf.der, issuing.certificate.der)))


async def test_an_expired_ca_is_unauthorized(
    authority: Authority, issuing: CaView, public: PublicApp
) -> None:
    leaf = await issue_leaf(authority)
    with clock.frozen(issuing.certificate.not_after + timedelta(seconds=1)):
        answer = await _get(public, ocsp_request(leaf.der, issuing.certificate.der))
    assert answer.response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED


async def test_hold_and_unhold_show_each_within_a_second(
    authority: Authority, issuing: CaView, public: PublicApp
) -> None:
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    assert await _status(public, request) is _GOOD
    for change, expected in ((hold(), _REVOKED), (unhold(), _GOOD), (hold(), _REVOKED)):
        await change_status(authority, SYSTEM, issuing, leaf.serial, change)
        committed = monotonic()
        while await _status(public, request) is not expected:
            assert monotonic() - committed < 1.0


async def test_a_new_ca_is_answered_for_by_a_running_process_at_once(
    authority: Authority, public: PublicApp, organization: str
) -> None:
    await make_hierarchy(authority, organization)
    issuing = (await authority.snapshot()).ca("demo~issuing")
    leaf = await issue_leaf(authority)
    assert await _status(public, ocsp_request(leaf.der, issuing.certificate.der)) is _GOOD


async def test_an_answer_is_signed_anew_at_half_of_its_life(
    authority: Authority, issuing: CaView, public: PublicApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    await eventually(lambda: _is_cached(public, request))
    first = await _get(public, request)
    half = issuing.options.ocsp_validity.total_seconds() / 2
    monkeypatch.setattr(answers, "monotonic", lambda: monotonic() + half + 1)
    assert (await _get(public, request)).signature != first.signature


@contextmanager
def _no_database(administration: psycopg.Connection[object], url: str) -> Iterator[None]:
    """The database refuses every connection and has ended those it had."""
    name = urlsplit(url).path.lstrip("/")
    administration.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    administration.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    try:
        yield
    finally:
        administration.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


async def test_without_the_database_nothing_is_good_and_it_recovers_by_itself(
    authority: Authority,
    issuing: CaView,
    public: PublicApp,
    watch: Watch,
    database_url: str,
    administration: psycopg.Connection[object],
) -> None:
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    assert await _status(public, request) is _GOOD
    with _no_database(administration, database_url):
        lost = monotonic()
        await eventually(lambda: not watch.current)
        assert monotonic() - lost < 2.0
        assert (await _get(public, request)).response_status is ocsp.OCSPResponseStatus.TRY_LATER
        with_nonce = ocsp_request(leaf.der, issuing.certificate.der, nonce=bytes(16))
        assert (await _get(public, with_nonce)).response_status is ocsp.OCSPResponseStatus.TRY_LATER
    await eventually(lambda: _is(public, request, _GOOD))


async def _is(app: PublicApp, request: bytes, status: ocsp.OCSPCertStatus) -> bool:
    return await _status(app, request) is status


async def test_a_revocation_made_while_a_process_was_cut_off_is_known_when_it_is_back(
    authority: Authority,
    issuing: CaView,
    elsewhere: PublicApp,
    database_url: str,
    administration: psycopg.Connection[object],
) -> None:
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    await eventually(lambda: _is_cached(elsewhere, request))
    with _no_database(administration, database_url):
        await eventually(lambda: not elsewhere.responder.current)
        _revoke_behind_everybody(administration, database_url, issuing, leaf.serial)
    await eventually(lambda: _is(elsewhere, request, _REVOKED))


def _revoke_behind_everybody(
    administration: psycopg.Connection[object], url: str, ca: CaView, serial: bytes
) -> None:
    """What another process would commit while this one has no connection."""
    name = urlsplit(url).path.lstrip("/")
    administration.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    with psycopg.connect(url) as connection:
        head = connection.execute("UPDATE journal_head SET event_seq = event_seq + 1 RETURNING event_seq").fetchone()
        assert head is not None
        connection.execute(
            "UPDATE certificate SET status = 'revoked', revoked_at = %s, reason = 1 WHERE ca_id = %s AND serial = %s",
            [clock.now(), ca.id, serial],
        )
        connection.execute(
            "INSERT INTO certificate_event (seq, at, ca_id, action, serial, reason, detail) "
            "VALUES (%s, %s, %s, 'revoked', %s, 1, '{}')",
            [head[0], clock.now(), ca.id, serial],
        )


async def test_nothing_is_served_from_memory_once_the_watch_is_late(
    authority: Authority, issuing: CaView, public: PublicApp, watch: Watch
) -> None:
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    await eventually(lambda: _is_cached(public, request))
    await watch.stop()
    await eventually(lambda: not watch.current)
    assert not await _is_cached(public, request)
    assert await _status(public, request) is _GOOD


def test_memory_is_bounded_and_what_was_unused_longest_goes_first() -> None:
    memory: answers.Memory[str, int] = answers.Memory(limit=300)
    for number, question in enumerate("abc"):
        memory.put(question, number, about=(), octets=100)
    assert memory.get("a") == 0
    memory.put("d", 3, about=(), octets=100)
    assert [memory.get(question) for question in "abcd"] == [0, None, 2, 3]


async def test_long_questions_count_as_much_as_they_take(
    authority: Authority, issuing: CaView, public: PublicApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf = await issue_leaf(authority)
    request = ocsp_request(leaf.der, issuing.certificate.der)
    await eventually(lambda: _is_cached(public, request))
    memory = public._ocsp._cache
    monkeypatch.setattr(memory, "_limit", 40_000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(public), base_url="http://pki.example") as client:
        for letter in "abcdefgh":
            answer = await client.post(f"/ocsp/{letter * 10_000}", content=request)
            assert ocsp.load_der_ocsp_response(answer.content).certificate_status is _GOOD
    assert sum(len("".join(map(str, question))) for question in memory._entries) <= 40_000
