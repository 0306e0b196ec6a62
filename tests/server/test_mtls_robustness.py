"""No body and no path makes the rooms of trust domains and identities stumble: they answer, or refuse."""

from __future__ import annotations

import copy
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.product import Product

_DOMAIN = "robust.example"
#: Bodies that are right in form; examples change one member of one of them.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/domains"): {
        "name": "other.example",
        "environment": "robust",
        "organization": "none",
        "title": "",
        "new_ca": None,
        "issuing_ca": "none~none",
        "anchor": "root",
        "lifetimes": {"service": "PT1H"},
        "ceilings": {"user": "P1D"},
        "required_attributes": ["team"],
        "dns_suffixes": ["svc"],
        "email_domains": [".example"],
        "pki_choice": "own",
    },
    ("PATCH", f"/domains/{_DOMAIN}"): {"title": "x", "lifetimes": {"service": "PT1H"}, "dns_suffixes": ["svc"]},
    ("POST", "/cas"): {"domain": "none", "new_ca": None, "issuing_ca": "none~none"},
    ("POST", "/identities"): {
        "domain": _DOMAIN,
        "kind": "service",
        "name": "Not A Name",
        "display_name": "",
        "email": "",
        "team": "t",
        "service": "",
        "roles": ["r"],
        "version": "1",
        "owner": "",
        "dns_names": ["a.svc"],
        "properties": {"a": "b"},
    },
    ("POST", "/identities/import"): {
        "identities": [{"domain": "none", "kind": "device", "name": "x"}],
        "skip_existing": True,
    },
    ("PATCH", "/identities/robust"): {"team": "t", "roles": ["r"], "dns_names": ["a.svc"], "properties": {"a": "b"}},
    ("POST", "/identities/robust/certificates"): {"csr": "AAAA", "lifetime": "PT1H", "dns_names": ["a.svc"]},
    ("POST", "/identities/robust/cert-manager"): {
        "issuer": "vault",
        "server": "https://x",
        "namespace": "n",
        "issuer_name": "i",
        "secret": "s",
        "lifetime": "PT1H",
        "cluster": False,
    },
    ("POST", "/identities/nobody/suspend"): {"comment": "x"},
    ("POST", "/revocations"): {"serial": "AA", "ca": None, "identity": None, "reason": "superseded", "comment": ""},
    (("POST", f"/bundles/{_DOMAIN}")): {
        "formats": ["pem", "jks", "p12", "k8s", "alb", "spiffe"],
        "also": [],
        "password": "changeit",
        "name": "x",
        "namespace": "y",
    },
    ("POST", "/edges"): {"service": "nobody", "trusted_domain": _DOMAIN, "cas": ["a~b"], "reason": "x"},
    ("POST", f"/domains/{_DOMAIN}/subordinates"): {"csr": "AAAA", "purpose": "x", "lifetime": "P1D"},
}
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, Any]:
    """A method, a path, and a body of which one member is something else."""
    method, path = draw(st.sampled_from(sorted(BODIES)))
    body = copy.deepcopy(BODIES[method, path])
    place: Any = body
    while True:
        name = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[name], dict | list) or not place[name] or draw(st.booleans()):
            break
        place = place[name]
    place[name] = draw(_JSON)
    return method, path, body


@pytest.fixture(scope="module")
def operator(product: Product) -> httpx.Client:
    """The operator of the host, over the unix socket; there are a trust domain and a service."""
    product.run("org", "create", "robust")
    product.run("mtls", "domain", "create", _DOMAIN, "--environment", "robust", "--org", "robust", "--new-ca")
    product.run("mtls", "identity", "add", "service", "robust", "--domain", _DOMAIN, "--team", "t")
    transport = httpx.HTTPTransport(uds=str(product.runtime.admin_socket))
    return httpx.Client(transport=transport, base_url="http://localhost/mtls/v1", timeout=30)


def expect_no_stumble(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.is_error:
        assert {"code", "detail", "status"} <= set(answer.json())


@given(asked=requests())
@settings(max_examples=300)
def test_every_body_is_answered_or_refused(operator: httpx.Client, asked: tuple[str, str, Any]) -> None:
    method, path, body = asked
    expect_no_stumble(operator.request(method, path, json=body))


@given(
    place=st.sampled_from(["domains/{}", "identities/{}", "bindings/{}", "bundles/{}", "designs/{}", "edges/{}"]),
    name=st.text(min_size=1, max_size=60),
)
@settings(max_examples=200)
def test_every_name_in_a_path_is_answered_or_refused(operator: httpx.Client, place: str, name: str) -> None:
    try:
        path = place.format(quote(name, safe=""))
    except UnicodeEncodeError:
        return
    expect_no_stumble(operator.get(f"/{path}"))


@given(condition=st.text(max_size=60), place=st.sampled_from(["identities", "bindings", "edges", "domains"]))
@settings(max_examples=150)
def test_every_condition_of_a_list_is_answered_or_refused(
    operator: httpx.Client, condition: str, place: str
) -> None:
    try:
        condition.encode()
    except UnicodeEncodeError:
        return
    for known in ("", "name=", "id=", "state~", "created_at>="):
        expect_no_stumble(operator.get(f"/{place}", params={"filter": known + condition}))
