"""Hostile input over mutual TLS: each request is refused with a clear error, and the server goes on as before."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from tests.integration.forged import extension, request, san, weak_rsa_keys
from tests.support.pki import PROFILE, Gateway, Pki, certificate_request, eventually, issued, ok, refusal

from intaglio.asn1 import der

_HUGE = der.integer(-(1 << 40000))


@pytest.fixture
async def gateway(pki: Pki) -> AsyncIterator[Gateway]:
    """Alice, who may enrol. Afterwards the server must be as healthy as before."""
    async with pki.http() as gateway:
        yield gateway
        issued(await gateway.enroll(request()))
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
        ok(await http.get(pki.product.url("health", "/readyz")))


@pytest.fixture
def nothing_issued(pki: Pki, gateway: Gateway) -> Iterator[None]:
    """No certificate and no event while the test runs; ``gateway`` is named so that its own check comes later."""
    before = _recorded(pki)
    yield
    assert _recorded(pki) == before


def _recorded(pki: Pki) -> Any:
    with pki.database() as database:
        query = """SELECT count(*), (SELECT count(*) FROM certificate_event e JOIN certificate c
            ON e.certificate_id = c.id WHERE c.profile = %(profile)s) FROM certificate WHERE profile = %(profile)s"""
        return database.execute(query, {"profile": PROFILE}).fetchone()


_NUL, _ESCAPE = b"\x82\x0fwww.example\0.com", b"\x82\x0cwww\x1b.example"
_REQUESTS = {
    "the same extension twice": request(extensions=[san([b"\x82\x05a.com"]), san([b"\x82\x05b.com"])]),
    "a negative version": request(version=der.integer(-1)),
    "a huge version": request(version=_HUGE),
    "an integer without octets": request(version=der.tlv(0x02, b"")),
    "an integer with a needless zero": request(version=der.tlv(0x02, b"\0\0")),
    "ten thousand names": request(names=[b"\x82\x0a%06d.com" % n for n in range(10_000)]),
    "a hundred and one names": request(names=[b"\x82\x0a%06d.com" % n for n in range(101)]),
    "NUL in a host name": request(names=[_NUL]),
    "a control character in a host name": request(names=[_ESCAPE]),
    "NUL in the subject": request(name=der.utf8_string("www.example\0.com")),
    "a control character in the subject": request(name=der.utf8_string("www\x1b[2J.example")),
    "invalid UTF-8 in the subject": request(name=der.tlv(0x0C, b"\xff\xfe\xc0\x80")),
    "an unknown string type in the subject": request(name=der.tlv(0x04, b"www.example")),
    "a subject of 60,000 characters": request(name=der.utf8_string("a" * 60_000)),
    "a signature by nobody": request(signature=b"\x30\x06\x02\x01\x01\x02\x01\x01"),
    "an empty signature": request(signature=b""),
    "a name that is no name": request(names=[b"\x9f\xff\xff\xff\x7f\x00"]),
    "an address of five octets": request(names=[b"\x87\x05\1\2\3\4\5"]),
    "an extension with garbage": request(extensions=[extension("2.5.29.17", b"\xde\xad\xbe\xef")]),
    "deep nesting": b"\x30\x84\x00\x00\x40\x00" + b"\x30\x80" * 8192,
    "a length beyond the end": b"\x30\x84\xff\xff\xff\xff\x00",
    "trailing octets": request() + b"\0",
    "nothing": b"\x30\x00",
}


@pytest.mark.usefixtures("nothing_issued")
async def test_forged_requests_are_refused(gateway: Gateway) -> None:
    for what, csr in _REQUESTS.items():
        answer = await gateway.enroll(csr)
        assert answer.status_code in (400, 413), (what, answer.text[:300])
        error = refusal(answer)
        assert error["code"] in ("cagw-4001", "cagw-4002", "cagw-4005", "cagw-4006", "cagw-4009"), (what, error)


@pytest.mark.usefixtures("nothing_issued")
async def test_weak_rsa_keys_are_refused_for_their_weakness(gateway: Gateway) -> None:
    for what, key in weak_rsa_keys().items():
        error = refusal(await gateway.enroll(request(key=key)), 400)
        # With the exponent 1 the request is its own signature; OpenSSL does not even read such a key.
        assert error["code"] in ("cagw-4006", "cagw-4002" if what == "exponent 1" else ""), (what, error)


@pytest.mark.usefixtures("nothing_issued")
async def test_a_truncated_request_is_refused_wherever_it_ends(gateway: Gateway) -> None:
    whole = certificate_request()
    for end in range(1, len(whole), 7):
        assert refusal(await gateway.enroll(whole[:end]), 400)["code"] == "cagw-4002"


@pytest.mark.usefixtures("nothing_issued")
async def test_a_proof_of_possession_of_another_key_is_refused(gateway: Gateway) -> None:
    one, other = certificate_request(), certificate_request()
    signature = len(one) - 80  # the last octets are signature whatever its length is
    mixed = one[:signature] + other[len(other) - 80 :]
    assert refusal(await gateway.enroll(mixed), 400)["code"] == "cagw-4002"


def _bodies() -> dict[str, tuple[bytes, int]]:
    good = json.dumps({"profileId": PROFILE, "csr": base64.b64encode(request()).decode()}).encode()
    return {
        "nothing": (b"", 400),
        "no JSON": (b"-----BEGIN CERTIFICATE REQUEST-----", 400),
        "half of it": (good[: len(good) // 2], 400),
        "invalid UTF-8": (good.replace(b"privatessl", b"priv\xff\xfe\xc0ssl"), 400),
        "a lone surrogate": (good.replace(b"privatessl", b"\\ud800"), 400),
        "NUL in the profile": (good.replace(b"privatessl", b"\\u0000"), 404),
        "a hundred thousand brackets": (b"[" * 100_000, 400),
        "a deep object": (b'{"properties":' * 20_000 + b"1" + b"}" * 20_000, 400),
        "a huge number": (b'{"profileId":' + b"9" * 200_000 + b"}", 400),
        "an infinite number": (b'{"profileId":1e999999}', 400),
        "the wrong type everywhere": (b'{"profileId":[],"csr":{},"requiredFormat":7,"subjectAltNames":"x"}', 400),
        "a list": (b"[" + good + b"]", 400),
        "90,000 properties": (b'{"properties":{' + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}}", 400),
        "ten MiB": (good[:-1] + b',"x":"' + b"a" * (10 << 20) + b'"}', 413),
    }


@pytest.mark.usefixtures("nothing_issued")
async def test_hostile_bodies_are_refused(gateway: Gateway) -> None:
    for what, (body, status) in _bodies().items():
        answer = await _post(gateway, body)
        assert answer.status_code == status, (what, answer.text[:300])
        refusal(answer)


@pytest.mark.usefixtures("nothing_issued")
@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "\xff"])
async def test_other_content_types_are_refused(gateway: Gateway, content_type: str) -> None:
    body = json.dumps({"profileId": PROFILE, "csr": base64.b64encode(request()).decode()}).encode()
    assert refusal(await _post(gateway, body, content_type.encode("latin-1")), 415)["code"] == "cagw-4022"


async def test_no_mutation_of_a_request_makes_the_server_fail(gateway: Gateway) -> None:
    chance = random.Random(61)
    good = request()
    for _ in range(300):
        _answered(await gateway.enroll(_mutated(good, chance)))


async def test_no_mutation_of_a_body_makes_the_server_fail(gateway: Gateway) -> None:
    chance = random.Random(62)
    good = {
        "profileId": PROFILE,
        "csr": base64.b64encode(request()).decode(),
        "requiredFormat": {"format": "PEM"},
        "subjectAltNames": [{"type": "dNSName", "value": "www.example"}],
        "includeCa": True,
        "properties": {"ticket": "1"},
        "optionalCertificateRequestDetails": {"validityPeriod": "/P7D", "useSANFromCSR": True},
    }
    for _ in range(300):
        _answered(await _post(gateway, _mutated(json.dumps(good).encode(), chance)))


@pytest.mark.usefixtures("nothing_issued")
async def test_a_refusal_leaves_one_record_with_its_reason_and_count(gateway: Gateway, pki: Pki) -> None:
    wanted = f"none-{random.Random().getrandbits(60):x}"  # equal refusals share a record, so this one is like no other
    for _ in range(2):
        refusal(await gateway.enroll(request(), profileId=wanted), 404)

    def counts() -> list[Any]:
        with pki.database() as database:
            query = """SELECT actor, detail->>'code', (detail->>'count')::int FROM audit_record
                WHERE outcome = 'refused' AND action = 'certificate.issue' AND object = %s"""
            return database.execute(query, [f"{pki.issuing}/{wanted}"]).fetchall()

    await eventually(lambda: sum(row[2] for row in counts()) == 2, what="the refusals are recorded")
    assert {row[:2] for row in counts()} == {(f"CN=alice,O={pki.organization}", "profile-unknown")}


async def _post(gateway: Gateway, body: bytes, content_type: bytes = b"application/json") -> httpx.Response:
    path = f"/{gateway.pki.issuing}/enrollments"
    return await gateway.client.post(path, content=body, headers=[(b"content-type", content_type)])


def _answered(answer: httpx.Response) -> None:
    """Issued or refused, never failed."""
    assert answer.status_code < 500 or answer.status_code == 501, answer.text
    if answer.status_code == 200:
        ok(answer)
    else:
        refusal(answer)


def _mutated(data: bytes, chance: random.Random) -> bytes:
    """A copy with one to four faults: flipped bits, replaced, inserted, removed or repeated octets."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(changed))
        kind = chance.randrange(5)
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at] = chance.choice((0, 0x30, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            changed[at:at] = chance.randbytes(chance.randrange(1, 6))
        elif kind == 3:
            del changed[at : at + chance.randrange(1, 9)]
        else:
            changed[at:at] = changed[at : at + 40]
    return bytes(changed)
