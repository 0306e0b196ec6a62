"""Security codes in the hands of administrators: who may make them, approve, send, list and withdraw them."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from tests.mtls.enrolment.conftest import EMAIL, VISITOR, Mailbox, begin, set_live
from tests.mtls.identities.test_registry import make_member
from tests.support.authority import OPERATOR, tenant
from tests.support.identities import make_domain, make_service

from intaglio.authority import organizations
from intaglio.core.errors import IntaglioError
from intaglio.core.principal import Permission, Principal
from intaglio.db.listing import ListQuery
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import mail
from intaglio.mtls.enrolment.codes import (
    CreatedCode,
    NewCode,
    approve_code,
    create_code,
    get_code,
    list_codes,
    mark_delivered,
    revoke_code,
    send_code,
)
from intaglio.mtls.enrolment.people import Person, find_or_add
from intaglio.mtls.enrolment.policy import public_policy
from intaglio.mtls.enrolment.sessions import begin_session
from intaglio.mtls.enrolment.stored_secrets import Secret, set_secret
from intaglio.mtls.identities.registry import NewIdentity, add_identity
from intaglio.mtls.identities.values import Identity, TrustDomain

ANOTHER = Principal("operator", "second", OPERATOR.permissions, source="unix")
_CODE = re.compile(r"^ {4}((?:[0-9A-Z]{5}-){4}[0-9A-Z]{5})$", re.MULTILINE)


async def refused(awaitable: Any) -> str:
    """The code with which something is refused."""
    with pytest.raises(IntaglioError) as caught:
        await awaitable
    return caught.value.code


async def test_a_code_is_shown_to_its_maker_only_once(mtls: Mtls, code: CreatedCode) -> None:
    assert code.text is not None
    assert code.text.startswith(code.code.handle)
    found = await get_code(mtls, OPERATOR, code.code.id)
    assert found == code.code
    assert code.text[6:] not in str(found)


async def test_codes_are_for_people_and_devices(mtls: Mtls, trust_domain: TrustDomain) -> None:
    service = await make_service(mtls)
    assert await refused(create_code(mtls, OPERATOR, NewCode(service))) == "identity-not-enrollable"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"emails": ["no address"]}, "email-invalid"),
        ({"ttl_hours": 0}, "invalid-input"),
        ({"max_uses": 21}, "invalid-input"),
        ({"validity_days": 0}, "lifetime-above-ceiling"),
        ({"validity_days": 6}, "lifetime-above-ceiling"),
        ({"note": "two\nlines"}, "invalid-input"),
        ({"deliver": True}, "mail-not-configured"),
    ],
)
async def test_a_wrong_wish_is_refused(mtls: Mtls, alice: Identity, changes: dict[str, Any], expected: str) -> None:
    assert await refused(create_code(mtls, OPERATOR, NewCode(alice, **changes))) == expected


async def test_five_hundred_days_need_an_explicit_ceiling(mtls: Mtls, organization: str) -> None:
    from datetime import timedelta

    from intaglio.mtls.identities.values import Kind

    await make_domain(mtls, "long.example", ceilings={Kind.USER: timedelta(days=500)})
    assert (await public_policy(mtls, "long.example")).validity_days == 5
    await set_live(mtls, "enrolment", validity_days=500)
    assert (await public_policy(mtls, "long.example")).validity_days == 500
    await make_domain(mtls, "short.example")
    assert (await public_policy(mtls, "short.example")).validity_days == 5
    await set_live(mtls, "enrolment", validity_days=1)
    assert (await public_policy(mtls, "long.example")).validity_days == 1


async def test_the_page_shows_the_only_domain_or_the_default_one(mtls: Mtls, trust_domain: TrustDomain) -> None:
    shown = await public_policy(mtls, None, "enrol.example:8443")
    assert shown.domain == "prod.example"
    assert shown.test_url == "https://enrol.example:1443/whoami"
    await make_domain(mtls, "dev.example", "dev")
    assert await refused(public_policy(mtls, None)) == "domain-unset"
    await set_live(mtls, "enrolment", default_domain="dev.example", title="Enrol here")
    shown = await public_policy(mtls, None)
    assert (shown.domain, shown.title) == ("dev.example", "Enrol here")
    assert await refused(public_policy(mtls, "none.example")) == "domain-unknown"


async def test_members_of_other_organizations_see_nothing(mtls: Mtls, code: CreatedCode) -> None:
    stranger = tenant("mallory")
    assert await refused(get_code(mtls, stranger, code.code.id)) == "code-unknown"
    assert await refused(revoke_code(mtls, stranger, code.code.id)) == "code-unknown"
    assert list((await list_codes(mtls, stranger, ListQuery())).rows) == []


async def test_codes_need_the_permission(mtls: Mtls, alice: Identity, code: CreatedCode) -> None:
    nobody = Principal("user", "eve", OPERATOR.permissions - {Permission.MTLS_ENROL})
    for attempt in (
        create_code(mtls, nobody, NewCode(alice)),
        get_code(mtls, nobody, code.code.id),
        list_codes(mtls, nobody, ListQuery()),
        revoke_code(mtls, nobody, code.code.id),
        send_code(mtls, nobody, code.code.id),
        approve_code(mtls, nobody, code.code.id),
        find_or_add(mtls, nobody, Person(email="x@example.com")),
    ):
        assert await refused(attempt) == "permission-missing"


async def test_who_makes_codes_cannot_give_people_other_addresses(mtls: Mtls, alice: Identity) -> None:
    """The address of a code comes into the registry and into certificates, and by it others know the person."""
    officer = await make_member(mtls, "officer", Permission.MTLS_ENROL)
    assert (await create_code(mtls, officer, NewCode(alice))).text
    assert (await create_code(mtls, officer, NewCode(alice, emails=["ALICE@example.com"]))).text
    for emails in (["ceo@example.com"], ["alice@example.com", "ceo@example.com"]):
        assert await refused(create_code(mtls, officer, NewCode(alice, emails=emails))) == "email-not-registered"
    keeper = await make_member(mtls, "keeper", Permission.MTLS_ENROL, Permission.MTLS_IDENTITIES)
    assert (await create_code(mtls, keeper, NewCode(alice, emails=["alice@example.org"]))).text
    device = await add_identity(mtls, OPERATOR, NewIdentity("prod.example", "device", "printer"))
    assert (await create_code(mtls, officer, NewCode(device, emails=["helpdesk@example.com"]))).text


async def test_codes_are_listed_by_state(mtls: Mtls, alice: Identity) -> None:
    made = [await create_code(mtls, OPERATOR, NewCode(alice)) for _ in range(3)]
    await revoke_code(mtls, OPERATOR, made[0].code.id)
    await mark_delivered(mtls, OPERATOR, made[1].code.id)
    for state, of in (("revoked", made[0]), ("delivered", made[1]), ("created", made[2])):
        page = await list_codes(mtls, OPERATOR, ListQuery(filter=[f"state={state}"]))
        assert [row["id"] for row in page.rows] == [of.code.id]
    newest_first = (await list_codes(mtls, OPERATOR, ListQuery(total=True))).rows
    assert len(newest_first) == 3
    matching = await list_codes(mtls, OPERATOR, ListQuery(filter=[f"emails~{EMAIL}"]))
    assert len(matching.rows) == 3


async def test_a_person_is_registered_once(mtls: Mtls, trust_domain: TrustDomain) -> None:
    person = Person(display_name="Bob", email="Bob@Example.com")
    first = await find_or_add(mtls, OPERATOR, person)
    assert await find_or_add(mtls, OPERATOR, person) == first
    assert first.email == "bob@example.com"
    officer = Principal("user", "officer", frozenset({Permission.MTLS_ENROL, Permission.MTLS_VIEW}))
    assert await refused(find_or_add(mtls, officer, Person(email="new@example.com"))) in (
        "domain-unknown", "identity-unknown",
    )  # fmt: skip


async def test_a_code_waits_for_a_second_person(mtls: Mtls, alice: Identity) -> None:
    await set_live(mtls, "enrolment", approval=True)
    code = await create_code(mtls, OPERATOR, NewCode(alice))
    assert code.code.state == "awaiting-approval"
    assert await refused(begin(mtls, code)) == "code-not-approved"
    assert await refused(approve_code(mtls, OPERATOR, code.code.id)) == "second-person-required"
    assert (await approve_code(mtls, ANOTHER, code.code.id)).state == "created"
    await begin(mtls, code)
    assert await refused(approve_code(mtls, ANOTHER, code.code.id)) == "code-not-waiting"


async def test_a_code_goes_by_mail_to_its_person(mtls: Mtls, alice: Identity, mailbox: Mailbox) -> None:
    await set_live(mtls, "mail", **mailbox.settings)
    code = await create_code(mtls, OPERATOR, NewCode(alice, deliver=True))
    assert code.text is None
    assert code.code.state == "delivered"
    message = mailbox.messages[0]
    assert message["To"] == EMAIL
    found = _CODE.search(mailbox.text())
    assert found is not None
    assert "https://pki.example:8443/enroll/" in mailbox.text()
    assert found[1] not in "".join(line for line in mailbox.text().splitlines() if "http" in line)
    assert (await begin_session(mtls, found[1], EMAIL, VISITOR)).identity == alice


async def test_sending_again_makes_the_earlier_code_useless(
    mtls: Mtls, code: CreatedCode, mailbox: Mailbox
) -> None:
    await set_live(mtls, "mail", **mailbox.settings)
    await send_code(mtls, OPERATOR, code.code.id)
    assert await refused(begin(mtls, code)) == "code_invalid"
    found = _CODE.search(mailbox.text())
    assert found is not None
    await begin_session(mtls, found[1], EMAIL, VISITOR)
    assert await refused(send_code(mtls, OPERATOR, code.code.id, to="mallory@example.com")) == "email-not-of-code"


async def test_an_approved_code_is_sent_by_itself(mtls: Mtls, alice: Identity, mailbox: Mailbox) -> None:
    await set_live(mtls, "enrolment", approval=True)
    await set_live(mtls, "mail", **mailbox.settings)
    code = await create_code(mtls, OPERATOR, NewCode(alice, deliver=True))
    assert mailbox.messages == []
    assert await refused(send_code(mtls, OPERATOR, code.code.id)) == "code-not-approved"
    assert (await approve_code(mtls, ANOTHER, code.code.id)).state == "delivered"
    assert len(mailbox.messages) == 1


async def test_a_mail_server_that_cannot_be_verified_gets_no_code(
    mtls: Mtls, code: CreatedCode, mailbox: Mailbox
) -> None:
    await set_live(mtls, "mail", **mailbox.settings | {"ca_file": ""})
    with pytest.raises(IntaglioError, match="certificate") as caught:
        await send_code(mtls, OPERATOR, code.code.id)
    assert caught.value.code == "mail-unavailable"
    assert mailbox.messages == []
    await begin(mtls, code)  # the code that was shown is still good


@pytest.mark.parametrize("mailbox", ["starttls", "tls", "loopback"], indirect=True)
async def test_mail_goes_by_every_kind_of_connection(mtls: Mtls, mailbox: Mailbox) -> None:
    await set_live(mtls, "mail", **mailbox.settings)
    await mail.send(mtls, mail.Mail([EMAIL], "Subject", "Gr\u00fc\u00dfe"))
    assert mailbox.text() == "Gr\u00fc\u00dfe\n"


@pytest.mark.parametrize("mailbox", ["loopback"], indirect=True)
async def test_a_server_that_offers_no_tls_gets_no_mail_that_asks_for_it(mtls: Mtls, mailbox: Mailbox) -> None:
    await set_live(mtls, "mail", **mailbox.settings | {"security": "starttls"})
    assert await refused(mail.send(mtls, mail.Mail([EMAIL], "Subject", "Text"))) == "mail-unavailable"
    assert mailbox.messages == []


async def test_the_account_of_the_mail_server_is_used_and_its_password_is_sealed(
    mtls: Mtls, code: CreatedCode, mailbox: Mailbox
) -> None:
    await set_live(mtls, "mail", **mailbox.settings | {"user": "pki"})
    await set_secret(mtls, OPERATOR, Secret.SMTP_PASSWORD, SecretStr("wrong"))
    assert await refused(send_code(mtls, OPERATOR, code.code.id)) == "mail-unavailable"
    await set_secret(mtls, OPERATOR, Secret.SMTP_PASSWORD, SecretStr("correct horse"))
    await send_code(mtls, OPERATOR, code.code.id)
    async with mtls.database.read() as view:
        sealed = await view.scalar(text("SELECT sealed FROM mtls_enrolment_secret"))
    assert b"correct horse" not in bytes(sealed)
    assert await refused(set_secret(mtls, tenant("eve"), Secret.SMTP_PASSWORD, None)) == "permission-missing"


async def test_no_header_gets_into_a_mail(mtls: Mtls, mailbox: Mailbox) -> None:
    await set_live(mtls, "mail", **mailbox.settings)
    for to in ("a@example.com\r\nBcc: b@example.com", "no address", ""):
        assert await refused(mail.send(mtls, mail.Mail([to], "Subject", "Text"))) == "mail-address-invalid"
    assert await refused(mail.send(mtls, mail.Mail([EMAIL], "One\nTwo: x", "Text"))) == "mail-address-invalid"
    await mail.send(mtls, mail.Mail([EMAIL], "Subject", "Hello"))
    assert mailbox.messages[0]["Subject"] == "Subject"


async def test_a_withdrawn_or_used_code_is_not_sent(mtls: Mtls, code: CreatedCode, mailbox: Mailbox) -> None:
    await set_live(mtls, "mail", **mailbox.settings)
    await revoke_code(mtls, OPERATOR, code.code.id)
    assert (await revoke_code(mtls, OPERATOR, code.code.id)).state == "revoked"
    assert await refused(send_code(mtls, OPERATOR, code.code.id)) == "code-not-open"
    assert await refused(mark_delivered(mtls, OPERATOR, code.code.id)) == "code-not-open"


async def test_many_codes_at_once_are_all_different(mtls: Mtls, alice: Identity) -> None:
    made = await asyncio.gather(*(create_code(mtls, OPERATOR, NewCode(alice)) for _ in range(20)))
    assert len({each.text for each in made}) == 20


async def test_making_codes_leaves_the_configuration_alone(mtls: Mtls, alice: Identity) -> None:
    async def epoch() -> int:
        async with mtls.database.read() as view:
            return int(await view.scalar(text("SELECT epoch FROM journal_head")))

    before = await epoch()
    await create_code(mtls, OPERATOR, NewCode(alice))
    assert await epoch() == before


async def test_another_organization_is_another_partition(mtls: Mtls, code: CreatedCode) -> None:
    await organizations.create_organization(mtls.authority, OPERATOR, "other")
    page = await list_codes(mtls, OPERATOR, ListQuery(filter=["organization=other"]))
    assert list(page.rows) == []
