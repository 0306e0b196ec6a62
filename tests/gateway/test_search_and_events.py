"""Finding certificates, and following what happens to them."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.gateway.support import CA_PATH, Client, b64, csr, wish

from intaglio.core import clock

EVENTS = f"{CA_PATH}/demo~issuing/certificate-events"
CERTIFICATES = f"{CA_PATH}/demo~issuing/certificates"


async def issued(client: Client, subject: str = "CN=www.example") -> str:
    answer = await client.enroll(wish(optionalCertificateRequestDetails={"subjectDn": subject}))
    return str(answer.enrolled["serialNumber"])


async def follow(client: Client, page_size: int, query: str = "") -> tuple[list[dict[str, Any]], str]:
    """All events from the beginning, and where the feed ended."""
    events: list[dict[str, Any]] = []
    index = ""
    while True:
        page = (await client.get(f"{EVENTS}?preferredPageSize={page_size}&nextPageIndex={index}{query}")).json
        assert page["metadata"]["currentOffset"] == len(events)
        assert page["metadata"]["currentCount"] == len(page["events"]) <= page_size
        events += page["events"]
        index = page["nextPageIndex"]
        assert page["morePages"] == page["hasMore"]
        if not page["morePages"]:
            return events, index


# ---- search ----------------------------------------------------------------------------------------------------------


async def test_a_serial_number_is_compared_as_a_number(integrator: Client) -> None:
    serial = await issued(integrator)
    for spelling in (serial, serial.lower(), "000" + serial, "0x" + serial):
        answer = await integrator.certificate_of(spelling)
        assert answer.json["certificate"]["serialNumber"] == serial
    assert (await integrator.certificate_of("F" * 81)).code == "cagw-4001"


async def test_a_certificate_is_shown_with_what_clients_read(integrator: Client) -> None:
    certificate = (await integrator.enroll(wish())).certificate
    answer = await integrator.certificate_of(f"{certificate.serial_number:x}", query="?$fields=certificate.chain")
    shown = answer.json["certificate"]
    assert (shown["status"], shown["versionNumber"], shown["signatureAlgID"]) == ("normal", "3", "1.2.840.10045.4.3.2")
    assert shown["subjectPublicKeyInfo"]["publicKeyAlg"] == "EC"
    assert shown["certificateData"] == b64(certificate.public_bytes(Encoding.DER))
    assert shown["validityPeriod"].split("/")[1] == clock.rfc3339(certificate.not_valid_after_utc)
    assert len(answer.json["chain"]) == 2
    assert (await integrator.certificate_of(f"{certificate.serial_number:x}")).json["chain"] == []


async def test_the_certificates_of_a_subject_come_in_pages(integrator: Client) -> None:
    serials = [await issued(integrator, "CN=Zoë, O=Demo") for _ in range(5)]
    path = f"{CA_PATH}/demo~issuing/subjects/{quote('cn=ZOË,o=demo')}?$fields=subject.certificates&limit=2"
    found: list[str] = []
    index = ""
    while True:
        page = (await integrator.get(f"{path}&nextPageIndex={index}")).json
        found += [certificate["serialNumber"] for certificate in page["subject"]["certificates"]]
        if not page["morePages"]:
            break
        index = page["nextPageIndex"]
    assert found == serials
    plain = (await integrator.get(path.partition("?")[0])).json
    assert plain["subject"] == {"subjectName": "CN=Zoë,O=Demo"}


async def test_the_list_is_filtered_sorted_and_paged(integrator: Client) -> None:
    serials = [await issued(integrator, f"CN=host{i}") for i in range(5)]
    await integrator.act(serials[1], type="RevokeAction")
    newest = (await integrator.get(f"{CERTIFICATES}?limit=2&total=true")).json
    assert [c["serialNumber"] for c in newest["certificates"]] == [serials[4], serials[3]]
    assert newest["total"] == 5
    following = (await integrator.get(f"{CERTIFICATES}?limit=2&cursor={newest['nextCursor']}")).json
    assert [c["serialNumber"] for c in following["certificates"]] == [serials[2], serials[1]]
    revoked = (await integrator.get(f"{CERTIFICATES}?filter={quote('status=revoked')}")).json["certificates"]
    assert [(c["serialNumber"], c["status"]) for c in revoked] == [(serials[1], "revoked")]
    assert "certificateData" not in revoked[0]
    full = (await integrator.get(f"{CERTIFICATES}?sort=id&$fields=certificates.certificateData")).json
    assert x509.load_der_x509_certificate(_octets(full["certificates"][0]["certificateData"]))
    for wrong in ("filter=shoe", "sort=shoe", "limit=0", "limit=x", "cursor=x"):
        assert (await integrator.get(f"{CERTIFICATES}?{wrong}")).code == "cagw-4001"


async def test_ids_in_paths_are_decoded_once(integrator: Client) -> None:
    serial = await issued(integrator)
    encoded = await integrator.get(f"{CA_PATH}/demo%7Eissuing/certificates/{serial}")
    assert encoded.json["certificate"]["serialNumber"] == serial
    assert (await integrator.get(f"{CA_PATH}/demo%257Eissuing")).code == "cagw-4018"
    await issued(integrator, "CN=100%25 pure,O=a/b")
    subject = quote("CN=100%25 pure,O=a/b", safe="")
    assert (await integrator.get(f"{CA_PATH}/demo~issuing/subjects/{subject}")).status == 200


# ---- events ----------------------------------------------------------------------------------------------------------


async def test_the_feed_tells_the_whole_life_in_order(integrator: Client) -> None:
    serial = await issued(integrator)
    for action in ("HoldAction", "UnholdAction", "RevokeAction"):
        await integrator.act(serial, type=action, reason="unspecified")
    events, _ = await follow(integrator, 100)
    assert [event["action"] for event in events] == ["issued", "held", "unheld", "revoked"]
    assert [event["reason"] for event in events] == ["", "certificateHold", "", "unspecified"]
    assert {event["serialNumber"] for event in events} == {serial}
    numbers = [event["event"] for event in events]
    assert numbers == sorted(set(numbers))
    assert x509.load_der_x509_certificate(_octets(events[3]["certificate"])).serial_number == int(serial, 16)


async def test_no_event_is_lost_or_repeated_whatever_the_page_size(integrator: Client) -> None:
    bodies = [wish(csr=b64(csr(f"host{i}.example"))) for i in range(30)]
    serials = [answer.enrolled["serialNumber"] for answer in await asyncio.gather(*map(integrator.enroll, bodies))]
    for size in (1, 7, 30, 1000):
        events, _ = await follow(integrator, size)
        assert sorted(event["serialNumber"] for event in events) == sorted(serials)


async def test_a_poller_goes_on_where_the_last_page_ended(integrator: Client) -> None:
    await issued(integrator)
    _, index = await follow(integrator, 10)
    nothing = (await integrator.get(f"{EVENTS}?nextPageIndex={index}")).json
    assert (nothing["events"], nothing["morePages"]) == ([], False)
    later = await issued(integrator)
    page = (await integrator.get(f"{EVENTS}?nextPageIndex={nothing['nextPageIndex']}")).json
    assert [event["serialNumber"] for event in page["events"]] == [later]
    assert page["metadata"]["totalCount"] == 2


@pytest.mark.parametrize(
    "form", ["2000-01-01T00:00:00.00Z", "2000-01-01T00:00:00.000Z", "2000-01-01T00:00:00Z", "2000-01-01"]
)
async def test_every_form_of_the_start_date_is_understood(integrator: Client, form: str) -> None:
    await issued(integrator)
    assert len((await integrator.get(f"{EVENTS}?startDate={form}")).json["events"]) == 1


async def test_the_start_date_leaves_out_what_was_before(integrator: Client) -> None:
    now = clock.now()
    await issued(integrator, "CN=early")
    with clock.frozen(now + timedelta(hours=2)):
        late = await issued(integrator, "CN=late")
    events, _ = await follow(integrator, 10, f"&startDate={clock.rfc3339(now + timedelta(hours=1))}")
    assert [event["serialNumber"] for event in events] == [late]
    future = (await integrator.get(f"{EVENTS}?startDate=2999-01-01T00:00:00Z")).json
    assert (future["events"], future["metadata"]["totalCount"]) == ([], 0)


async def test_certificates_can_be_left_out_of_events(integrator: Client) -> None:
    await issued(integrator)
    event = (await integrator.get(f"{EVENTS}?%24fields=-events.certificate")).json["events"][0]
    assert "certificate" not in event


@pytest.mark.parametrize(
    "query", ["startDate=today", "nextPageIndex=%21", "preferredPageSize=-1", "nextPageIndex=MS4yLng"]
)
async def test_a_page_that_cannot_be_found_is_refused(integrator: Client, query: str) -> None:
    answer = await integrator.get(f"{EVENTS}?{query}")
    assert (answer.status, answer.code) == (400, "cagw-4001")
    assert answer.json["error"]["target"] == query.partition("=")[0]


async def test_odd_subjects_do_not_stop_the_feed(integrator: Client) -> None:
    odd = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bell\x07 zero\u200bwidth soft\u00adhyphen 🦉")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(odd)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("www.example")]), critical=False)
    request = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    serial = (await integrator.enroll(wish(csr=b64(request.public_bytes(Encoding.DER))))).enrolled["serialNumber"]
    await issued(integrator)
    events, _ = await follow(integrator, 1)
    assert len(events) == 2
    shown = (await integrator.certificate_of(serial)).json["certificate"]["subjectName"]
    assert shown == r"CN=bell\07 zero\E2\80\8Bwidth soft\C2\ADhyphen 🦉"


async def test_one_ca_does_not_see_the_events_of_another(integrator: Client) -> None:
    await issued(integrator)
    root = (await integrator.get(f"{CA_PATH}/demo~root/certificate-events")).json["events"]
    # The root has issued the certificate of the issuing CA, and nothing else.
    assert [event["action"] for event in root] == ["issued"]


def _octets(text: str) -> bytes:
    return base64.b64decode(text)
