"""Whatever arrives, the answer is one of the catalogue and never a failure of ours."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.gateway.support import CA_PATH, Client, wish

from intaglio.core.errors import InvalidInput
from intaglio.gateway.event_feed import EventQuery, read_cursor, write_cursor
from intaglio.gateway.extensions import explicit_extensions
from intaglio.gateway.fields import FieldSelection
from intaglio.gateway.http import path_segments
from intaglio.gateway.schemas import ActionRequest, EnrollmentRequest, RequestedExtensionBody, SubjectAltName, read_body
from intaglio.gateway.subjects import alternative_names_of, read_name
from intaglio.gateway.validity import parse_moment, parse_validity_period

_SHARED = settings(max_examples=60, suppress_health_check=list(HealthCheck))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)
_FIELDS = list(EnrollmentRequest.model_fields)
_DETAILS = list(EnrollmentRequest.model_fields["optionalCertificateRequestDetails"].annotation.model_fields)  # type: ignore[union-attr]
bodies = st.dictionaries(
    st.sampled_from(_FIELDS),
    json_values | st.dictionaries(st.sampled_from([*_DETAILS, "format", "protection"]), json_values, max_size=4),
    max_size=5,
)


def refused_or_fine(call: Any, *arguments: Any, **options: Any) -> None:
    """The call returns, or refuses; any other error fails the test."""
    with contextlib.suppress(InvalidInput):
        call(*arguments, **options)


@given(st.binary(max_size=300))
def test_no_octets_break_the_reading_of_bodies(body: bytes) -> None:
    refused_or_fine(read_body, EnrollmentRequest, body)
    refused_or_fine(read_body, ActionRequest, body)


@given(bodies)
def test_no_document_breaks_the_reading_of_bodies(body: dict[str, Any]) -> None:
    refused_or_fine(read_body, EnrollmentRequest, json.dumps(body).encode())
    refused_or_fine(read_body, ActionRequest, json.dumps({"action": body}).encode())


@given(st.text(max_size=60) | st.from_regex(r"P?[0-9TZ:/+.\-YMWDHS ]{0,60}", fullmatch=True))
def test_no_text_breaks_the_reading_of_times(text: str) -> None:
    refused_or_fine(parse_validity_period, text)
    refused_or_fine(parse_moment, text, target="x")
    refused_or_fine(EventQuery.parse, text, text, text)


@given(st.datetimes())
def test_a_moment_is_read_back_to_the_second(moment: Any) -> None:
    text = moment.strftime("%Y").zfill(4) + moment.strftime("-%m-%dT%H:%M:%S") + ".123456Z"
    assert parse_moment(text, target="x").replace(tzinfo=None) == moment.replace(microsecond=0)


@given(st.integers(0, 10**17), st.integers(0, 10**17))
def test_a_position_in_the_feed_is_read_back(seq: int, offset: int) -> None:
    assert read_cursor(write_cursor(seq, offset)) == (seq, offset)


@given(st.lists(st.text(max_size=40), max_size=5))
def test_no_text_breaks_the_selection_of_fields(values: list[str]) -> None:
    refused_or_fine(FieldSelection.parse, values, ["ca"])


@given(st.text(max_size=30), st.none() | st.text(max_size=60), st.none() | st.text(max_size=60))
def test_no_text_breaks_the_reading_of_names(kind: str, value: str | None, encoded: str | None) -> None:
    entry = SubjectAltName.model_construct(type=kind, value=value, der=encoded)
    refused_or_fine(alternative_names_of, [entry], None, None)
    refused_or_fine(read_name, value or "", target="dn")


@given(st.from_regex(r"[0-2](\.[0-9]{1,9}){1,9}", fullmatch=True), st.text(max_size=60))
def test_no_text_breaks_the_reading_of_extensions(oid: str, value: str) -> None:
    entry = RequestedExtensionBody.model_construct(oid=oid, critical=False, value=value)
    refused_or_fine(explicit_extensions, [entry])


@given(st.binary(max_size=100))
def test_no_path_breaks_the_router(path: bytes) -> None:
    refused_or_fine(path_segments, {"raw_path": path})


@_SHARED
@given(changes=bodies)
async def test_no_enrolment_makes_the_gateway_fail(integrator: Client, changes: dict[str, Any]) -> None:
    answer = await integrator.enroll(wish(**changes))
    assert answer.status < 500 or answer.status == 501, answer.body
    assert answer.json["type"] in ("EnrollmentResponse", "ErrorResponse")


@_SHARED
@given(details=st.dictionaries(st.sampled_from(_DETAILS), json_values, max_size=3))
async def test_no_details_make_the_gateway_fail(integrator: Client, details: dict[str, Any]) -> None:
    answer = await integrator.enroll(wish(optionalCertificateRequestDetails=details))
    assert answer.status < 500 or answer.status == 501, answer.body


@_SHARED
@given(action=st.dictionaries(st.sampled_from(["type", "reason", "comment", "csr", "compromiseDate"]), json_values))
async def test_no_action_makes_the_gateway_fail(integrator: Client, action: dict[str, Any]) -> None:
    answer = await integrator.act("4F2A", **({"type": "RenewAction"} | action))
    assert 400 <= answer.status < 500 or answer.status == 501, answer.body


@_SHARED
@given(
    path=st.from_regex(r"[A-Za-z0-9%/~=,.+-]{0,40}", fullmatch=True),
    query=st.from_regex(r"[A-Za-z0-9%/~=,.+&$-]{0,40}", fullmatch=True),
)
async def test_no_path_and_query_make_the_gateway_fail(integrator: Client, path: str, query: str) -> None:
    for base in ("/", f"{CA_PATH}/", f"{CA_PATH}/demo~issuing/", f"{CA_PATH}/demo~issuing/subjects/"):
        answer = await integrator.get(f"{base}{path}?{query}")
        assert answer.status < 500 or answer.status == 501, answer.body
