"""What somebody tries who has no secret, or one that is good for something else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.enrollment.cmp.conftest import NewDesk
from tests.support.cmp_client import certificate_request, taken_apart

from intaglio.asn1 import cmp, crmf, der
from intaglio.asn1.cmp import Body
from intaglio.enrollment.cmp.macs import pbmac1
from intaglio.x509.extensions import extension


@pytest.mark.parametrize("octets", [1, 4, 19])
@pytest.mark.parametrize("lax", [False, True])
async def test_a_mac_under_a_key_that_can_be_guessed_protects_nothing(
    new_desk: NewDesk, octets: int, lax: bool
) -> None:
    """The sender chooses how long the derived key is: one octet would be found by 256 attempts without the secret."""
    desk = await new_desk(options={"excluded_tests": ["protection-strength"] if lax else []})
    client, mac = desk.client(implicit=True), replace(pbmac1(), key_octets=octets)
    content, _ = certificate_request()
    header = cmp.header(client.header(protection_algorithm=mac.identifier))
    body = cmp.body(Body.IR, content)
    right = mac.compute(b"a shared secret of enough length", cmp.protected_part(header, body))
    answer = taken_apart(cmp.read_message(await desk.send(cmp.message(header, body, right))))
    assert answer.failures == {"badAlg"}


_HUGE = 1 << 16_000  # more digits than Python turns into text


@pytest.mark.parametrize("where", ["version", "iterations", "key-length", "reason", "confirmed", "polled"])
async def test_a_number_of_thousands_of_digits_is_refused_as_any_other(new_desk: NewDesk, where: str) -> None:
    desk = await new_desk()
    client = desk.client()
    content, _ = certificate_request()
    if where == "version":
        message = client.message(Body.IR, content, version=_HUGE)
    elif where in ("iterations", "key-length"):
        mac = replace(pbmac1(), **{"iterations" if where == "iterations" else "key_octets": _HUGE})
        message = cmp.message(
            cmp.header(client.header(protection_algorithm=mac.identifier)), cmp.body(Body.IR, content), b"whatever"
        )
    elif where == "reason":
        issued = (await client.request()).issued
        reason = extension("2.5.29.21", False, der.tlv(der.ENUMERATED, der.integer(_HUGE)[4:]))
        template = crmf.cert_template(issuer=issued.issuer.public_bytes(), serial=issued.serial_number)
        message = client.begin().message(
            Body.RR, der.sequence(der.sequence(template, der.sequence(reason)))
        )
    else:
        await client.request()
        number = der.integer(_HUGE)
        entry = der.sequence(der.octet_string(b"hash"), number) if where == "confirmed" else der.sequence(number)
        body = Body.CERTCONF if where == "confirmed" else Body.POLLREQ
        message = client.message(body, der.sequence(entry))
    answer = taken_apart(cmp.read_message(await desk.send(message)))
    assert answer.failures, answer
