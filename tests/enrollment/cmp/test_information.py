"""General messages: what a client may want to know before it asks for anything."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.enrollment.cmp.conftest import Desk, NewDesk
from tests.support.authority import OPERATOR
from tests.support.cmp_client import CmpClient

from intaglio.asn1 import cmp, crmf, der
from intaglio.asn1.cmp import Body, InfoTypeAndValue
from intaglio.authority.crls import issue_crl
from intaglio.enrollment.cmp import information
from intaglio.x509.crl_reading import read_crl


async def ask(client: CmpClient, *items: InfoTypeAndValue) -> dict[str, bytes | None]:
    """What is answered, by type."""
    answer = await client.ask(Body.GENM, der.sequence(*(item.der for item in items)))
    assert answer.body is Body.GENP, answer
    return {item.oid: item.value for item in cmp.read_information(answer.message.content)}


@pytest.mark.parametrize("secret", [True, False], ids=["protected", "unprotected"])
async def test_the_ca_certificates_are_told_to_everybody(new_desk: NewDesk, secret: bool) -> None:
    desk = await new_desk()
    client = desk.client() if secret else CmpClient(desk.send)
    found = await ask(client, InfoTypeAndValue(information.CA_CERTIFICATES))
    chain = (await desk.enrollment.authority.current()).ca("demo~issuing").chain
    assert found == {information.CA_CERTIFICATES: der.sequence(*chain[:-1])}


async def test_whoever_has_the_root_is_told_of_no_other(new_desk: NewDesk) -> None:
    desk = await new_desk()
    root = (await desk.enrollment.authority.current()).ca("demo~issuing").chain[-1]
    client = desk.client()
    assert await ask(client, InfoTypeAndValue(information.ROOT_CA_CERTIFICATE, root)) == {
        information.ROOT_CA_KEY_UPDATE: None
    }
    older = (await desk.enrollment.authority.current()).ca("demo~issuing").chain[0]
    found = await ask(client, InfoTypeAndValue(information.ROOT_CA_CERTIFICATE, older))
    assert found == {information.ROOT_CA_KEY_UPDATE: der.sequence(root)}


async def test_the_template_says_which_keys_are_certified(new_desk: NewDesk) -> None:
    desk = await new_desk(options={"curves": ["P-384"], "minimum_rsa_bits": 3072})
    found = await ask(desk.client(), InfoTypeAndValue(information.CERTIFICATE_REQUEST_TEMPLATE))
    reader = der.Reader(found[information.CERTIFICATE_REQUEST_TEMPLATE] or b"").enter()
    template = crmf.read_template(reader.read(der.SEQUENCE))
    assert (template.subject, template.public_key) == (b"\x30\x00", None)
    controls = [der.Reader(each.der).enter() for each in der.children(reader.read(der.SEQUENCE).content)]
    told = {der.decode_oid(each.read(der.OBJECT_IDENTIFIER).content): each.read().der for each in controls}
    assert told["1.3.6.1.5.5.7.5.1.11"].endswith(der.oid("1.3.132.0.34"))
    assert told["1.3.6.1.5.5.7.5.1.12"] == der.integer(3072)


async def with_crl(new_desk: NewDesk) -> Desk:
    desk = await new_desk()
    ca = (await desk.enrollment.authority.current()).ca("demo~issuing")
    await issue_crl(desk.enrollment.authority, OPERATOR, ca, ca.generation)
    return desk


async def test_the_current_crl_is_told(new_desk: NewDesk) -> None:
    desk = await with_crl(new_desk)
    found = await ask(desk.client(), InfoTypeAndValue(information.CURRENT_CRL))
    ca = (await desk.enrollment.authority.current()).ca("demo~issuing")
    crl = read_crl(found[information.CURRENT_CRL] or b"")
    assert crl.issuer.key == ca.certificate.subject.key


async def test_a_crl_is_told_only_to_whoever_has_an_older_one(new_desk: NewDesk) -> None:
    desk = await with_crl(new_desk)
    ca = (await desk.enrollment.authority.current()).ca("demo~issuing")
    issuer = der.explicit(1, der.sequence(der.explicit(4, ca.certificate.subject.der)))
    current = await ask(desk.client(), InfoTypeAndValue(information.CURRENT_CRL))
    crl = read_crl(current[information.CURRENT_CRL] or b"")

    async def told(*status: bytes) -> bytes | None:
        wish = InfoTypeAndValue(information.CRL_STATUS_LIST, der.sequence(der.sequence(*status)))
        return (await ask(desk.client(), wish))[information.CRLS]

    before, now = crl.this_update - timedelta(days=1), crl.this_update
    assert await told(issuer) is not None
    assert await told(issuer, der.utc_or_generalized_time(before)) is not None
    assert await told(issuer, der.utc_or_generalized_time(now)) is None
    stranger = der.explicit(1, der.sequence(der.explicit(4, b"\x30\x00")))
    assert await told(stranger) is None


async def test_what_is_not_known_is_listed(new_desk: NewDesk) -> None:
    desk = await new_desk()
    found = await ask(desk.client(), InfoTypeAndValue("1.2.3.4"), InfoTypeAndValue(information.LANGUAGES))
    assert found[information.UNSUPPORTED_OIDS] == der.sequence(der.oid("1.2.3.4"))
    assert found[information.LANGUAGES] == der.sequence(der.utf8_string("en"))


async def test_an_open_question_is_answered_with_what_there_is(new_desk: NewDesk) -> None:
    desk = await new_desk()
    found = await ask(desk.client())
    assert set(found) == {
        information.SIGN_KEY_PAIR_TYPES,
        information.PREFERRED_SYMMETRIC_ALGORITHM,
        information.CA_CERTIFICATES,
    }
