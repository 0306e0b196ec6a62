"""JSON schemas of what the gateway answers, for the OpenAPI document. Fields may be added, never removed or retyped."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

STRING: Final[Schema] = {"type": "string"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
INTEGER: Final[Schema] = {"type": "integer"}
STRINGS: Final[Schema] = {"type": "array", "items": STRING}
STRING_MAP: Final[Schema] = {"type": "object", "additionalProperties": STRING}
MOMENT: Final[Schema] = {
    "type": "string",
    "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$",
    "description": "UTC, always with seconds.",
}
PERIOD: Final[Schema] = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$",
    "description": "notBefore/notAfter.",
}
SERIAL: Final[Schema] = {"type": "string", "pattern": "^[0-9A-F]+$", "description": "Hexadecimal."}
BASE64: Final[Schema] = {"type": "string", "contentEncoding": "base64"}


def ref(name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema) -> Schema:
    """An array of ``items``."""
    return {"type": "array", "items": items}


def record(required: Schema, optional: Schema | None = None, description: str = "") -> Schema:
    """An object; clients must ignore fields they do not know."""
    schema: Schema = {"type": "object", "properties": required | (optional or {}), "required": sorted(required)}
    return schema | ({"description": description} if description else {})


def answer(kind: str, required: Schema, optional: Schema | None = None) -> Schema:
    """An answer with its ``type`` discriminator and optional message."""
    extra = {"message": ref("Message")} | (optional or {})
    return record({"type": {"type": "string", "const": kind}} | required, extra)


def _flags(*names: str) -> Schema:
    return record(dict.fromkeys(names, BOOLEAN))


_PAGED: Final[Schema] = {"morePages": BOOLEAN, "hasMore": BOOLEAN, "nextPageIndex": STRING}

COMPONENTS: Final[dict[str, Schema]] = {
    "ErrorDetail": record({"code": STRING, "message": STRING}, {"target": STRING, "step": STRING}),
    "Error": record(
        {"code": {"type": "string", "pattern": r"^cagw-\d{4}$"}, "message": STRING},
        {
            "target": {"type": "string", "description": "JSON pointer into the body, or the name of a parameter."},
            "value": STRING,
            "details": array(ref("ErrorDetail")),
        },
    ),
    "ErrorResponse": record({"type": {"type": "string", "const": "ErrorResponse"}, "error": ref("Error")}),
    "Message": record(
        {"code": STRING, "message": STRING},
        {"target": STRING, "value": STRING, "details": array(record({"message": STRING}))},
    ),
    "VersionResponse": answer(
        "VersionResponse",
        {"name": STRING, "version": STRING, "apiVersion": STRING},
        {"certificateAuthorities": STRING, "documentation": STRING, "openapi": STRING},
    ),
    "CertificateData": record({"certificateData": BASE64}),
    "CA": record(
        {"id": STRING, "name": STRING, "properties": STRING_MAP},
        {"certificate": ref("CertificateData"), "chain": array(ref("CertificateData"))},
    ),
    "CAListResponse": answer("CAListResponse", {"caList": array(ref("CA"))}),
    "CAResponse": answer("CAResponse", {"ca": ref("CA")}),
    "Capabilities": record(
        {
            "caManagement": _flags("CAStatus", "PermitsDefaultCA", "SupportsMultipleCAs"),
            "enrollment": {"type": "object", "additionalProperties": BOOLEAN},
            "certificateManagement": record(
                {
                    "certificateActions": STRINGS,
                    "revocationReasons": STRINGS,
                    "subjectActions": STRINGS,
                    "CertificateEvents": BOOLEAN,
                    "Recover": STRINGS,
                }
            ),
            "search": _flags("SearchBySerial", "SearchBySubjectDN"),
        }
    ),
    "CACapabilitiesResponse": answer(
        "CACapabilitiesResponse", {"role": STRING, "capabilities": ref("Capabilities")}
    ),
    "CAStatusResponse": answer("CAStatusResponse", {"status": {"type": "string", "enum": ["UP", "DOWN"]}}),
    "CAPropertiesResponse": answer(
        "CAPropertiesResponse",
        {
            "CAPropertiesInformation": record(
                {"properties": {"type": "object", "additionalProperties": {"anyOf": [STRING, STRINGS]}}}
            )
        },
    ),
    "Profile": record(
        {
            "id": STRING,
            "name": STRING,
            "properties": STRING_MAP,
            "protocols": STRINGS,
            "requestedProperties": array(record({"name": STRING, "description": STRING, "required": BOOLEAN})),
            "subjectAltNameRequirements": array(record({"type": STRING, "required": BOOLEAN})),
            "subjectVariableRequirements": array(record({"name": STRING, "description": STRING, "required": BOOLEAN})),
        }
    ),
    "ProfilesResponse": answer("ProfilesResponse", {"profiles": array(ref("Profile"))}),
    "ProfileResponse": answer("ProfileResponse", {"profile": ref("Profile")}),
    "Enrollment": record(
        {
            "status": {"type": "string", "enum": ["issued", "validated"]},
            "subjectName": STRING,
            "validityPeriod": PERIOD,
        },
        {
            "id": {"type": "string", "format": "uuid"},
            "profileId": STRING,
            "serialNumber": SERIAL,
            "issuerName": STRING,
            "format": {"type": "string", "enum": ["X509", "PEM", "PKCS7", "PKCS12"]},
            "body": {"type": "string", "description": "PEM text, otherwise base64 on one line."},
            "chain": array(ref("CertificateData")),
            "properties": STRING_MAP,
            "subjectAltNames": STRINGS,
        },
    ),
    "EnrollmentResponse": answer("EnrollmentResponse", {"enrollment": ref("Enrollment")}),
    "RevocationInfo": record({"revocationDate": MOMENT, "reason": STRING}, {"compromiseDate": MOMENT}),
    "Certificate": record(
        {
            "id": {"type": "string", "format": "uuid"},
            "status": {"type": "string", "enum": ["normal", "held", "revoked", "expired"]},
            "serialNumber": SERIAL,
            "validityPeriod": PERIOD,
            "subjectName": STRING,
        },
        {
            "versionNumber": STRING,
            "signatureAlgID": STRING,
            "certificateSignatureAlg": STRING,
            "issuerName": STRING,
            "rfc2253EncodedSubjectName": STRING,
            "rfc2253EscapedSubjectName": STRING,
            "subjectAltNames": STRINGS,
            "subjectPublicKeyInfo": record({"publicKeyAlg": STRING, "subjectPublicKey": BASE64}),
            "certificateData": BASE64,
            "profileId": STRING,
            "issuedAt": MOMENT,
            "properties": STRING_MAP,
            "revocationInfo": ref("RevocationInfo"),
            "previousId": {"type": "string", "format": "uuid"},
        },
    ),
    "CertificateResponse": answer(
        "CertificateResponse", {"certificate": ref("Certificate"), "chain": array(ref("CertificateData"))}
    ),
    "CertificatesResponse": answer(
        "CertificatesResponse",
        {"certificates": array(ref("Certificate")), "hasMore": BOOLEAN},
        {"nextCursor": STRING, "total": INTEGER},
    ),
    "SubjectResponse": answer(
        "SubjectResponse",
        {"subject": record({"subjectName": STRING}, {"certificates": array(ref("Certificate"))})},
        _PAGED,
    ),
    "ActionResult": record(
        {
            "type": STRING,
            "id": {"type": "string", "format": "uuid"},
            "status": {"type": "string", "enum": ["ACCEPTED", "REJECTED", "COMPLETED"]},
            "comment": STRING,
            "succeedIfAlreadyInRequestedState": BOOLEAN,
            "properties": STRING_MAP,
        },
        {"reason": STRING, "compromiseDate": MOMENT},
    ),
    "ActionResponse": answer("ActionResponse", {"action": ref("ActionResult")}, {"enrollment": ref("Enrollment")}),
    "CertificateEvent": record(
        {
            "action": {"type": "string", "enum": ["issued", "revoked", "held", "unheld"]},
            "event": {"type": "integer", "description": "Strictly increasing number of the event."},
            "eventDate": MOMENT,
            "serialNumber": SERIAL,
            "reason": STRING,
            "detail": STRING,
        },
        {"certificate": BASE64},
    ),
    "CertificateEventsResponse": answer(
        "CertificateEventsResponse",
        {
            "events": array(ref("CertificateEvent")),
            "metadata": record(
                {
                    "currentCount": INTEGER,
                    "totalCount": {"type": "integer", "description": "Exact up to 10,000 events still to come."},
                    "totalIsLowerBound": BOOLEAN,
                    "currentOffset": INTEGER,
                    "currentLimit": INTEGER,
                }
            ),
        }
        | _PAGED,
    ),
}
