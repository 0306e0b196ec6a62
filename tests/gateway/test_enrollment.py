"""Enrolling through the gateway."""

from __future__ import annotations

from tests.gateway.support import Client, wish


async def test_a_request_is_answered_with_a_certificate(integrator: Client) -> None:
    answer = await integrator.enroll(wish())
    assert answer.status == 200, answer.body
    assert answer.certificate.subject.rfc4514_string() == "CN=www.example"
