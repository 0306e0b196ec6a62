"""The OpenAPI document of the gateway: request schemas from the models that check them, answers as declared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from intaglio import __version__
from intaglio.gateway.answers import COMPONENTS, ref
from intaglio.gateway.errors import CATALOGUE
from intaglio.gateway.schemas import ActionRequest, EnrollmentRequest

_CA: Final = "/cagw/v1/certificate-authorities/{caId}"


@dataclass(frozen=True)
class Operation:
    """One documented operation; ``answer`` is the component of the 200 answer, None for a 501."""

    method: str
    path: str
    identifier: str
    summary: str
    answer: str | None
    tag: str
    request: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


_FIELDS: Final = {"$fields": "Comma-separated fields to add, or with a leading - to leave out. Also written $field."}
_PAGE: Final = {"limit": "Page size, at most 1000.", "cursor": "Where the page before ended."}

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation("GET", "/cagw/v1", "getVersion", "Version of the API", "VersionResponse", "about"),
    Operation(
        "GET", "/cagw/v1/certificate-authorities", "listCertificateAuthorities", "CAs visible to the caller",
        "CAListResponse", "certificate authorities", query=_FIELDS,
    ),
    Operation(
        "GET", _CA, "getCertificateAuthority", "One CA; ca.certificate and ca.chain on request", "CAResponse",
        "certificate authorities", query=_FIELDS,
    ),
    Operation(
        "GET", f"{_CA}/capabilities", "getCapabilities", "What this CA can do for this caller",
        "CACapabilitiesResponse", "certificate authorities",
    ),
    Operation(
        "GET", f"{_CA}/status", "getStatus", "Whether the CA can work now", "CAStatusResponse",
        "certificate authorities",
    ),
    Operation(
        "GET", f"{_CA}/properties", "getProperties", "Properties of the CA", "CAPropertiesResponse",
        "certificate authorities", query={"fields": "Comma-separated names of properties; all without it."},
    ),
    Operation(
        "GET", f"{_CA}/crl", "getCrl", "The current CRL (DER)", "binary", "certificate authorities",
        media_type="application/pkix-crl",
    ),
    Operation(
        "GET", f"{_CA}/profiles", "listProfiles", "Profiles the CA offers", "ProfilesResponse", "profiles",
        query=_FIELDS,
    ),
    Operation(
        "GET", f"{_CA}/profiles/{{profileId}}", "getProfile", "One profile", "ProfileResponse", "profiles",
        query=_FIELDS,
    ),
    Operation(
        "POST", f"{_CA}/enrollments", "enroll", "Enrol for a certificate", "EnrollmentResponse", "enrolment",
        request="EnrollmentRequest",
        query={"validateOnly": "true: decide and answer, issue nothing."},
        headers={"Idempotency-Key": "1 to 255 characters; the same key and request get the same certificate."},
    ),
    Operation(
        "GET", f"{_CA}/enrollments/{{enrollmentId}}", "getEnrollment", "A recorded enrolment", "EnrollmentResponse",
        "enrolment", query=_FIELDS,
    ),
    Operation(
        "GET", f"{_CA}/certificates", "listCertificates", "Certificates with filter, sort and pages",
        "CertificatesResponse", "certificates",
        query={
            "filter": "A condition such as status=revoked or not_after<2027-01-01T00:00:00Z; may be repeated.",
            "sort": "id or not_after, with a leading - for descending.",
            "total": "true: count all matching certificates.",
            **_PAGE,
            **_FIELDS,
        },
    ),
    Operation(
        "GET", f"{_CA}/certificates/{{serialNumber}}", "getCertificate", "A certificate by serial number",
        "CertificateResponse", "certificates", query=_FIELDS,
    ),
    Operation(
        "POST", f"{_CA}/certificates/{{serialNumber}}/actions", "actOnCertificate",
        "Hold, unhold, revoke, deactivate, renew or reissue a certificate", "ActionResponse", "certificates",
        request="ActionRequest",
    ),
    Operation(
        "POST", f"{_CA}/certificates/{{serialNumber}}/recoveries", "recoverCertificate", "Recover a key", None,
        "certificates",
    ),
    Operation(
        "GET", f"{_CA}/subjects/{{dn}}", "getSubject", "A subject; subject.certificates on request",
        "SubjectResponse", "subjects", query={**_PAGE, **_FIELDS},
    ),
    Operation(
        "POST", f"{_CA}/subjects/{{dn}}/actions", "actOnSubject",
        "Hold, unhold, revoke, deactivate or reactivate all certificates of a subject", "ActionResponse", "subjects",
        request="ActionRequest",
    ),
    Operation("POST", f"{_CA}/subjects/{{dn}}/recoveries", "recoverSubject", "Recover keys", None, "subjects"),
    Operation(
        "GET", f"{_CA}/certificate-events", "listCertificateEvents", "The event feed, oldest first",
        "CertificateEventsResponse", "events",
        query={
            "startDate": "Leave out events before this ISO 8601 instant.",
            "nextPageIndex": "Continue after an earlier page; given on the last page too.",
            "preferredPageSize": "Page size, at most 1000, 100 without it.",
            **_FIELDS,
        },
    ),
    Operation("GET", f"{_CA}/domains", "listDomains", "Validated domains", None, "domains"),
    Operation("POST", f"{_CA}/domains", "submitDomain", "Submit a domain", None, "domains"),
    Operation("GET", f"{_CA}/domains/{{name}}", "getDomain", "One domain", None, "domains"),
    Operation(
        "POST", f"{_CA}/domains/{{name}}/verifications", "verifyDomain", "Verify a domain again", None, "domains"
    ),
)  # fmt: skip

_PATH_PARAMETERS: Final = {
    "caId": "{organization}~{CA id}.",
    "profileId": "Profile id; - and _ are the same.",
    "enrollmentId": "Id from the answer to the enrolment.",
    "serialNumber": "Hexadecimal, in any case, leading zeros allowed.",
    "dn": "Distinguished name (RFC 4514, RFC 2253 or /C=../O=../CN=..), percent-encoded.",
    "name": "Domain name.",
}


@cache
def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Intaglio CA gateway",
            "version": __version__,
            "description": "Certificate life cycle and policy retrieval over mutual TLS. Clients must ignore fields "
            "they do not know; no field of v1 is ever removed or retyped.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"clientCertificate": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted({**COMPONENTS, **_request_schemas()}.items())),
            "responses": {
                "Error": {
                    "description": "Refused; the catalogue of codes is at /cagw/doc.",
                    "content": {"application/json": {"schema": ref("ErrorResponse")}},
                }
            },
            "securitySchemes": {"clientCertificate": {"type": "mutualTLS"}},
        },
        "x-error-catalogue": [
            {"code": entry.code, "status": entry.status, "meaning": entry.meaning} for entry in CATALOGUE.values()
        ],
    }


@cache
def document_json() -> bytes:
    """The document, ready to send."""
    return json.dumps(document(), separators=(",", ":"), ensure_ascii=False).encode()


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.identifier,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": _parameters(operation),
        "responses": {"default": {"$ref": "#/components/responses/Error"}},
    }
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": ref(operation.request)}},
        }
    if operation.answer is None:
        described["responses"]["501"] = {"$ref": "#/components/responses/Error"}
        return described
    binary = operation.answer == "binary"
    schema = {"type": "string", "format": "binary"} if binary else ref(operation.answer)
    described["responses"]["200"] = {"description": "Done.", "content": {operation.media_type: {"schema": schema}}}
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    text = {"type": "string"}
    in_path = [
        {"name": name, "in": "path", "required": True, "description": described, "schema": text}
        for name, described in _PATH_PARAMETERS.items()
        if f"{{{name}}}" in operation.path
    ]
    in_query = [
        {"name": name, "in": "query", "description": described, "schema": text}
        for name, described in operation.query.items()
    ]
    in_header = [
        {"name": name, "in": "header", "description": described, "schema": text}
        for name, described in operation.headers.items()
    ]
    return [*in_path, *in_query, *in_header]


def _request_schemas() -> dict[str, Any]:
    models = [(model, "validation") for model in (EnrollmentRequest, ActionRequest)]
    _, schema = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    definitions: dict[str, Any] = schema["$defs"]
    return definitions
