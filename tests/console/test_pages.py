"""The enrolment page of a running server."""

from __future__ import annotations

import ssl

import httpx
import pytest
from tests.support.product import PATIENCE, Product, eventually


@pytest.fixture
def console(product: Product) -> httpx.Client:
    """A client of the console listener."""
    context = ssl.create_default_context(cadata=product.run("tls", "ca-certificate"))
    transport = httpx.HTTPTransport(verify=context, trust_env=False)
    return httpx.Client(transport=transport, base_url=product.url("console"), timeout=PATIENCE, trust_env=False)


def _may_speak_to(answer: httpx.Response) -> list[str]:
    rules = (rule.split() for rule in answer.headers["content-security-policy"].split(";"))
    return next(sources for name, *sources in rules if name == "connect-src")


def test_the_page_may_speak_to_the_mtls_host_of_the_name_it_was_reached_by(
    console: httpx.Client, product: Product
) -> None:
    assert _may_speak_to(console.get("/enroll/")) == ["'self'", product.url("enroll")]
    other = product.url("enroll").replace("localhost", "pki.example")
    assert _may_speak_to(console.get("/enroll/", headers={"host": "pki.example:8443"})) == ["'self'", other]


@pytest.mark.parametrize("host", ["x; script-src *", "a b", "https://evil.example", "*", "'none'"])
def test_what_is_no_host_name_does_not_get_into_the_policy(console: httpx.Client, product: Product, host: str) -> None:
    answer = console.get("/enroll/", headers={"host": host})
    if answer.status_code == 200:
        assert _may_speak_to(answer) == ["'self'", product.url("enroll")]
        assert "script-src 'self';" in answer.headers["content-security-policy"]


def test_the_page_follows_the_address_of_the_mtls_host_when_it_is_set(console: httpx.Client, product: Product) -> None:
    product.run("settings", "set", "enrolment.access_url=https://mtls.example")
    try:
        eventually(
            lambda: "https://mtls.example" in _may_speak_to(console.get("/enroll/")),
            what="the policy follows the setting",
        )
    finally:
        product.run("settings", "set", 'enrolment.access_url=""')
    eventually(
        lambda: product.url("enroll") in _may_speak_to(console.get("/enroll/")),
        what="the policy goes back with the setting",
    )


def test_the_page_is_sent_compressed_and_only_once(console: httpx.Client) -> None:
    page = console.get("/enroll/", headers={"accept-encoding": "gzip"})
    assert page.headers["content-encoding"] == "gzip"
    assert "Get your certificate" in page.text
    again = console.get("/enroll/", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
