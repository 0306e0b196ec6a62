"""Logging in to the platform with a certificate, once its holder has shown that the account is his."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import text
from tests.mtls.enrolment.conftest import VISITOR, begin, csr_for
from tests.support.authority import OPERATOR
from tests.support.identities import issue, make_service, make_user

from intaglio.authority.cas.delete import delete_ca
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.revocation import change_status, revocation
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, Unauthenticated
from intaglio.core.principal import SYSTEM, Principal
from intaglio.identity import api_tokens, login, sessions, users
from intaglio.identity.roles import install_built_in_roles
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import certificate_login
from intaglio.mtls.enrolment.certificate_login import list_links, unlink
from intaglio.mtls.enrolment.codes import CreatedCode
from intaglio.mtls.enrolment.enrolling import submit_request
from intaglio.mtls.identities import revoking
from intaglio.mtls.identities.authorities import NewCaWish
from intaglio.mtls.identities.bindings import bindings_of
from intaglio.mtls.identities.rotation import finish_rotation, give_ca
from intaglio.mtls.identities.values import IssuedIdentity
from intaglio.server.enrolment_listener import enrolment_app

PASSWORD = SecretStr("correct horse battery staple")


@pytest_asyncio.fixture
async def issued(mtls: Mtls, code: CreatedCode) -> IssuedIdentity:
    """Alice's certificate."""
    opened = await begin(mtls, code)
    return await submit_request(mtls, opened.token, csr_for(opened), VISITOR)


@pytest_asyncio.fixture
async def session(mtls: Mtls) -> str:
    """A session of the account alice, who may see audit records."""
    async with mtls.database.transaction() as tx:
        await install_built_in_roles(tx)
        await users.create_user(tx, SYSTEM, "alice", roles=("auditor",), password=PASSWORD)
    return (await login.login(mtls.database, "alice", PASSWORD)).secret.get_secret_value()


class Host:
    """The mTLS host, asked with a certificate."""

    def __init__(self, mtls: Mtls) -> None:
        self._app = enrolment_app(mtls)

    async def post(self, path: str, certificate: bytes | None, token: str | None = None) -> tuple[int, dict[str, Any]]:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            chain = () if certificate is None else (certificate,)
            scope["extensions"] = {"tls": {"client_chain_der": chain, "tls_version": 0x0304}}
            await self._app(scope, receive, send)

        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="https://pki.example:1443", headers=headers) as each:
            answer = await each.post(f"/enrol/v1/{path}")
            return answer.status_code, answer.json()


@pytest_asyncio.fixture
async def host(mtls: Mtls) -> AsyncIterator[Host]:
    yield Host(mtls)
    await mtls.close()


async def test_a_linked_certificate_logs_in(mtls: Mtls, host: Host, issued: IssuedIdentity, session: str) -> None:
    status, refused = await host.post("login", issued.certificate)
    assert (status, refused["code"]) == (401, "certificate-not-linked")
    status, linked = await host.post("login/link", issued.certificate, session)
    assert (status, linked["user"]) == (200, "alice")
    status, opened = await host.post("login", issued.certificate)
    assert (status, opened["user"]) == (200, "alice")
    who = await sessions.authenticate(mtls.database, opened["token"])
    assert who.name == "alice"
    assert "audit.view" in who.permissions
    async with mtls.database.read() as view:
        query = text("SELECT detail FROM audit_record WHERE action = 'user.login' ORDER BY seq DESC LIMIT 1")
        assert (await view.scalar(query))["certificate_of"] == issued.identity.uri


@pytest.mark.parametrize("what", ["revoke", "hold", "renewed", "suspend", "unlink"])
async def test_a_session_ends_with_the_certificate_it_was_opened_with(
    mtls: Mtls, host: Host, issued: IssuedIdentity, session: str, what: str
) -> None:
    await host.post("login/link", issued.certificate, session)
    mine, every = issued, issued.identity.id
    if what == "renewed":
        mine = await issue(mtls, issued.identity, renews=issued.binding_id)
    opened = (await host.post("login", mine.certificate))[1]["token"]
    assert (await sessions.authenticate(mtls.database, opened)).name == "alice"
    if what == "suspend":
        await revoking.suspend_identity(mtls, OPERATOR, every)
    elif what == "unlink":
        await unlink(mtls, OPERATOR, every)
    else:
        reason = RevocationReason.CERTIFICATE_HOLD if what == "hold" else RevocationReason.KEY_COMPROMISE
        await revoking.revoke_binding(mtls, OPERATOR, issued.binding_id, reason)
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(mtls.database, opened)
    assert (await sessions.authenticate(mtls.database, session)).name == "alice"  # opened by password


async def test_tokens_made_in_a_session_end_with_the_certificate_too(
    mtls: Mtls, host: Host, issued: IssuedIdentity, session: str
) -> None:
    """Whoever logs in with a stolen certificate must not be able to stay."""
    await host.post("login/link", issued.certificate, session)
    opened = (await host.post("login", issued.certificate))[1]["token"]
    bearer, made = opened, []
    for _ in range(2):  # in the session, and with the token that was made in it
        principal = await sessions.authenticate(mtls.database, bearer)
        async with mtls.database.transaction() as tx:
            token = await api_tokens.create_token(tx, principal, "stay")
        bearer = token.secret.get_secret_value()
        made.append(bearer)
    principal = await sessions.authenticate(mtls.database, bearer)
    async with mtls.database.transaction() as tx:
        made.append((await api_tokens.rotate_token(tx, principal, token.token.id)).secret.get_secret_value())
    late = await sessions.authenticate(mtls.database, opened)
    await revoking.revoke_binding(mtls, OPERATOR, issued.binding_id)
    for each in made:
        with pytest.raises(Unauthenticated):
            await sessions.authenticate(mtls.database, each)
    async with mtls.database.transaction() as tx:
        with pytest.raises(Unauthenticated):
            await api_tokens.create_token(tx, late, "too late")


async def test_a_session_ends_when_its_certificate_expires(
    mtls: Mtls, host: Host, issued: IssuedIdentity, session: str
) -> None:
    await host.post("login/link", issued.certificate, session)
    async with mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_binding SET not_after = now() + interval '10 minutes'"))
    opened = (await host.post("login", issued.certificate))[1]
    with clock.frozen(clock.now() + timedelta(minutes=9)):
        await sessions.authenticate(mtls.database, opened["token"])  # which would extend any other
    with clock.frozen(clock.now() + timedelta(minutes=11)), pytest.raises(Unauthenticated):
        await sessions.authenticate(mtls.database, opened["token"])


async def test_a_session_ends_when_a_ca_above_its_certificate_is_revoked(
    mtls: Mtls, host: Host, issued: IssuedIdentity, session: str
) -> None:
    await host.post("login/link", issued.certificate, session)
    opened = (await host.post("login", issued.certificate))[1]["token"]
    snapshot = await mtls.authority.current()
    issuing = snapshot.ca(issued.identity.domain.issuing_ca)
    assert issuing.issuer_id is not None
    await change_status(
        mtls.authority, OPERATOR, snapshot.cas[issuing.issuer_id], issuing.certificate.serial,
        revocation(RevocationReason.CA_COMPROMISE),
    )  # fmt: skip
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(mtls.database, opened)


async def _logged_in(mtls: Mtls, host: Host, issued: IssuedIdentity, session: str) -> str:
    """The token of a session that her certificate opened."""
    await host.post("login/link", issued.certificate, session)
    opened = str((await host.post("login", issued.certificate))[1]["token"])
    await sessions.authenticate(mtls.database, opened)
    return opened


async def test_a_session_ends_when_the_ca_of_its_certificate_is_dropped_by_force(
    mtls: Mtls, host: Host, issued: IssuedIdentity, session: str
) -> None:
    opened = await _logged_in(mtls, host, issued, session)
    await give_ca(mtls, OPERATOR, "prod.example", new_ca=NewCaWish())
    await sessions.authenticate(mtls.database, opened)  # both CAs count
    await finish_rotation(mtls, OPERATOR, "prod.example", force=True)
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(mtls.database, opened)
    await sessions.authenticate(mtls.database, session)  # opened with the password
    assert (await host.post("login", issued.certificate))[0] in (401, 403)


@pytest.mark.parametrize("which", ["issuing", "root"])
async def test_a_session_ends_when_a_ca_of_its_certificate_is_deleted(
    mtls: Mtls, host: Host, issued: IssuedIdentity, session: str, which: str
) -> None:
    opened = await _logged_in(mtls, host, issued, session)
    full_id = issued.identity.domain.issuing_ca + ("-root" if which == "root" else "")
    await delete_ca(mtls.authority, OPERATOR, full_id, force=True)
    with pytest.raises(Unauthenticated):
        await sessions.authenticate(mtls.database, opened)
    await sessions.authenticate(mtls.database, session)


@pytest.mark.parametrize("how", ["dropped", "deleted", "above deleted"])
async def test_who_was_judged_before_a_ca_went_opens_no_session_after(
    mtls: Mtls, host: Host, issued: IssuedIdentity, session: str, how: str
) -> None:
    await host.post("login/link", issued.certificate, session)
    async with mtls.database.read() as view:
        (binding,) = await bindings_of(view, [issued.binding_id])  # judged
    issuing_ca = issued.identity.domain.issuing_ca
    if how == "dropped":
        await give_ca(mtls, OPERATOR, "prod.example", new_ca=NewCaWish())
        await finish_rotation(mtls, OPERATOR, "prod.example", force=True)
    else:
        full_id = issuing_ca if how == "deleted" else f"{issuing_ca}-root"
        await delete_ca(mtls.authority, OPERATOR, full_id, force=True)
    with pytest.raises(Unauthenticated) as refusal:
        await certificate_login.log_in(mtls, issued.identity, binding, VISITOR)
    assert refusal.value.code == "unknown_ca"


async def test_an_address_alone_makes_nobody_an_administrator(mtls: Mtls, host: Host, session: str) -> None:
    async with mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE user_account SET email = 'root@example.com'"))
    impostor = await issue(mtls, await _user(mtls, "root@example.com"))
    status, refused = await host.post("login", impostor.certificate)
    assert (status, refused["code"]) == (401, "certificate-not-linked")


async def _user(mtls: Mtls, email: str) -> Any:
    from tests.support.identities import make_domain

    from intaglio.authority import organizations

    await organizations.create_organization(mtls.authority, OPERATOR, "demo")
    await make_domain(mtls)
    return await make_user(mtls, email)


async def test_another_certificate_of_the_same_person_logs_in_to_nothing(
    mtls: Mtls, host: Host, issued: IssuedIdentity, session: str
) -> None:
    await host.post("login/link", issued.certificate, session)
    # Whoever makes security codes, or keeps the registry, could have this one.
    behind_the_back = await issue(mtls, issued.identity)
    status, refused = await host.post("login", behind_the_back.certificate)
    assert (status, refused["code"]) == (401, "certificate-not-linked")
    status, _ = await host.post("login", issued.certificate)
    assert status == 200


async def test_a_renewed_certificate_keeps_its_link(
    mtls: Mtls, host: Host, issued: IssuedIdentity, session: str
) -> None:
    await host.post("login/link", issued.certificate, session)
    once = await issue(mtls, issued.identity, renews=issued.binding_id)
    twice = await issue(mtls, issued.identity, renews=once.binding_id)
    assert (await host.post("login", twice.certificate))[0] == 200
    assert (await host.post("login", once.certificate))[0] == 200


async def test_linking_needs_both_proofs(mtls: Mtls, host: Host, issued: IssuedIdentity, session: str) -> None:
    assert (await host.post("login/link", None, session))[1]["code"] == "no_certificate"
    assert (await host.post("login/link", issued.certificate))[1]["code"] == "token-missing"
    assert (await host.post("login/link", issued.certificate, "nonsense"))[1]["code"] == "token-invalid"
    async with mtls.database.transaction() as tx:
        made = await api_tokens.create_token(tx, OPERATOR, "narrow", user="alice")
    status, refused = await host.post("login/link", issued.certificate, made.secret.get_secret_value())
    assert (status, refused["code"]) == (403, "session-required")
    service = await issue(mtls, await make_service(mtls))
    assert (await host.post("login/link", service.certificate, session))[1]["code"] == "identity-not-a-person"


@pytest.mark.parametrize("change", ["disabled = true", "must_change_password = true"])
async def test_an_account_that_is_stopped_is_stopped_for_certificates_too(
    mtls: Mtls, host: Host, issued: IssuedIdentity, session: str, change: str
) -> None:
    await host.post("login/link", issued.certificate, session)
    async with mtls.database.transaction() as tx:
        await tx.execute(text(f"UPDATE user_account SET {change}"))
    assert (await host.post("login", issued.certificate))[1]["code"] == "login-failed"


async def test_a_revoked_certificate_logs_in_no_more(
    mtls: Mtls, host: Host, issued: IssuedIdentity, session: str
) -> None:
    await host.post("login/link", issued.certificate, session)
    await revoking.revoke_binding(mtls, OPERATOR, issued.binding_id)
    assert (await host.post("login", issued.certificate))[1]["code"] == "revoked"


async def test_links_are_seen_and_ended_by_their_owner_and_whoever_manages_users(
    mtls: Mtls, host: Host, issued: IssuedIdentity, session: str
) -> None:
    await host.post("login/link", issued.certificate, session)
    alice, eve = Principal("user", "alice"), Principal("user", "eve")
    assert [each.user for each in await list_links(mtls, alice)] == ["alice"]
    assert await list_links(mtls, eve) == []
    with pytest.raises(IntaglioError) as caught:
        await unlink(mtls, eve, issued.identity.id)
    assert caught.value.code == "link-unknown"
    assert len(await list_links(mtls, OPERATOR)) == 1
    await unlink(mtls, alice, issued.identity.id)
    assert (await host.post("login", issued.certificate))[1]["code"] == "certificate-not-linked"
