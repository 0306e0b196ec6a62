"""Bodies and attributes of EST: what clients write, what strangers write, what is told."""

from __future__ import annotations

import base64
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.enrollment.est.conftest import Est
from tests.support.requests import request

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput, NotSupported, TooLarge
from intaglio.enrollment.est import cmc, encoding
from intaglio.enrollment.est.attributes import csr_attributes
from intaglio.enrollment.est.options import EstOptions
from intaglio.x509.cms.signed import SignedData

TEMPLATE = "1.2.840.113549.1.9.16.2.61"


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 100), st.sampled_from(["\n", "\r\n", " ", "\t\n"]))
def test_base64_is_read_however_it_is_broken(octets: bytes, width: int, line_end: str) -> None:
    text = base64.b64encode(octets).decode()
    broken = line_end.join(textwrap.wrap(text, width))
    assert encoding.decode(broken.encode()) == octets
    armoured = f"-----BEGIN CERTIFICATE REQUEST-----\n{broken}\n-----END CERTIFICATE REQUEST-----\n"
    assert encoding.decode(armoured.encode()) == octets
    assert encoding.decode(encoding.encode(octets)) == octets


def test_a_request_is_read_as_der_too() -> None:
    csr = request()
    assert encoding.decode(csr) == csr


@given(st.binary(max_size=500))
def test_a_body_is_octets_or_a_refusal(body: bytes) -> None:
    try:
        found = encoding.decode(body)
    except InvalidInput as error:
        found = error.code.encode()
    assert found


def test_a_body_has_a_limit() -> None:
    with pytest.raises(TooLarge):
        encoding.decode(b"A" * (encoding.MAX_BODY_OCTETS + 1))


@given(st.binary(max_size=400))
def test_a_message_of_strangers_is_read_or_refused(content: bytes) -> None:
    for octets in (content, der.sequence(content), der.sequence(der.sequence(), content)):
        with pytest.raises((InvalidInput, NotSupported)):
            cmc.request_of(SignedData("1.3.6.1.5.5.7.12.2", octets, (), (), ()))


async def test_no_body_breaks_the_server(est: Est) -> None:
    await est.endpoint(options={"server_keys": True, "renewal_without_certificate": True})
    csr = request()
    short = (b"", b"\x30", b"\x30\x80\x00\x00", b"\x30\x03\x02\x01\x00")
    for body in (*short, csr[:-1], csr[:40], csr + b"\0", b"\xff" * 70_000):
        for operation in ("simpleenroll", "simplereenroll", "serverkeygen", "fullcmc"):
            assert (await est(operation, body)).status_code in (400, 413, 422), (operation, body[:10])


def elements(options: EstOptions) -> list[der.Element]:
    found = csr_attributes(options)
    assert found is not None
    return der.children(der.read_tlv(found, der.SEQUENCE).content)


def test_nothing_is_told_where_nothing_is_wanted() -> None:
    assert csr_attributes(EstOptions()) is None


def test_loose_attributes_are_told_to_clients_of_every_age() -> None:
    found = elements(EstOptions(link_to_connection="required", request_key="P-384", request_attributes=("1.2.3.4",)))
    assert [each.tag for each in found] == [0x06, 0x06, 0x30, 0x06]
    assert der.decode_oid(found[0].content) == "1.2.840.113549.1.9.7"
    kind, values = der.children(found[2].content)
    assert der.decode_oid(kind.content) == "1.2.840.10045.2.1"
    assert [der.decode_oid(each.content) for each in der.children(values.content)] == ["1.3.132.0.34"]
    size = der.children(elements(EstOptions(request_key="RSA-3072"))[0].content)[1]
    assert der.decode_integer(der.children(size.content)[0].content) == 3072


def test_the_template_says_what_is_fixed_and_what_to_fill_in() -> None:
    options = EstOptions(
        subject_template="CN=,O=Demo\\, Inc",
        san_template=("dNSName", "iPAddress", "uniformResourceIdentifier=urn:fleet"),
        request_key="RSA-2048",
    )
    kind, values = der.children(elements(options)[-1].content)
    assert der.decode_oid(kind.content) == TEMPLATE
    version, subject, key, attributes = der.children(der.children(values.content)[0].content)
    assert version.content == b"\0"
    rdns = [der.children(der.children(each.content)[0].content) for each in der.children(subject.content)]
    assert [der.decode_oid(rdn[0].content) for rdn in rdns] == ["2.5.4.10", "2.5.4.3"]  # the most general first
    assert [len(rdn) for rdn in rdns] == [2, 1]
    assert rdns[0][1].content == b"Demo, Inc"
    assert key.tag == 0xA0
    placeholder, unused = der.decode_bit_string(der.children(key.content)[1].content)
    modulus = der.decode_integer(der.children(der.read_tlv(placeholder).content)[0].content)
    assert (modulus.bit_length(), unused, attributes.tag) == (2048, 0, 0xA1)
    wanted, extensions = der.children(der.children(attributes.content)[0].content)
    assert der.decode_oid(wanted.content) == "1.2.840.113549.1.9.14"
    extension = der.children(der.children(der.children(extensions.content)[0].content)[0].content)
    names = der.children(der.read_tlv(extension[-1].content).content)
    assert [(each.tag, each.content) for each in names] == [(0x82, b""), (0x87, b""), (0x86, b"urn:fleet")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject_template": "no template"},
        {"subject_template": "XYZ=1"},
        {"san_template": ("directoryName",)},
        {"san_template": ("nothing",)},
        {"san_template": ("dNSName=not a name",)},
        {"request_key": "DSA"},
        {"server_key_algorithm": "P-1"},
        {"request_attributes": ("not an oid",)},
        {"trusted": ("no certificate",)},
        {"unknown": 1},
    ],
)
def test_options_that_make_no_sense_are_refused_when_they_are_set(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EstOptions.model_validate(wrong)
