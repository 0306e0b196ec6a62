"""No body makes the management API stumble: it answers, or it refuses with a problem."""

from __future__ import annotations

import copy
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.product import Product

#: Bodies that are right in form; examples change one member of one of them.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/login"): {"name": "nobody", "password": "x"},
    ("POST", "/users"): {"name": "x", "email": "", "roles": [], "password": None},
    ("POST", "/roles"): {"name": "x", "description": "", "permissions": ["ca.view"]},
    ("POST", "/tokens"): {"name": "x", "lifetime_days": 1, "permissions": None, "user": "nobody"},
    ("POST", "/organizations"): {"name": "X", "description": "", "join_policy": "open"},
    ("POST", "/organizations/none/cas"): {
        "kind": "root",
        "name": "root",
        "key_algorithm": "P-256",
        "subject": "CN=Root",
        "not_after": None,
        "profiles": ["privatessl-tls-server"],
        "administrators": ["alice"],
        "auditors": [],
        "label": "",
        "ocsp_key_algorithm": None,
        "options": {"crl_interval_hours": 24},
        "credentials": {"compatibility": "modern"},
    },
    ("PATCH", "/cas/none~none"): {"profiles": [], "administrators": [], "options": {}, "label": ""},
    ("POST", "/cas/none~none/certificates"): {
        "profile": "x",
        "csr": "AAAA",
        "pkcs12": None,
        "subject": "CN=x",
        "names": [{"type": "dNSName", "value": "x"}],
        "validity": "P1D",
        "key_usage": None,
        "extensions": [{"oid": "1.2.3", "value": "AAAA"}],
        "properties": {"a": "b"},
    },
    ("POST", "/cas/none~none/subjects/revoke"): {"subject": "CN=x", "reason": "superseded", "comment": ""},
    ("POST", "/cas/none~none/rekey"): {"key_algorithm": "P-256", "not_after": None},
    ("POST", "/profiles"): {"id": "x", "based_on": "privatessl-tls-server", "changes": {"title": "x"}},
    ("POST", "/profiles/lint"): {"declaration": "id: x"},
    ("POST", "/declaration"): {"declaration": "organizations: []"},
    ("PATCH", "/settings/logging"): {"values": {"level": "LOUD"}, "version": 0},
    ("PUT", "/server-certificates/console"): {"certificate": "x", "key": "x", "password": None},
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
    """The operator of the host, over the unix socket."""
    transport = httpx.HTTPTransport(uds=str(product.runtime.admin_socket))
    return httpx.Client(transport=transport, base_url="http://localhost/api/v1", timeout=30)


@given(asked=requests())
@settings(max_examples=300)
def test_every_body_is_answered_or_refused(operator: httpx.Client, asked: tuple[str, str, Any]) -> None:
    method, path, body = asked
    answer = operator.request(method, path, json=body)
    assert answer.status_code < 500, answer.text
    if answer.is_error:
        assert {"code", "detail", "status"} <= set(answer.json())


@given(body=st.binary(max_size=200))
@settings(max_examples=50)
def test_what_is_not_json_is_refused(operator: httpx.Client, body: bytes) -> None:
    answer = operator.post("/organizations", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
