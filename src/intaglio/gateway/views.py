"""The JSON shapes of answers. Dates always have seconds and end in Z; serial numbers are upper-case hexadecimal."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority.certificates import RevocationReason, StoredCertificate
from intaglio.authority.directory import CaView
from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.identifiers import serial_hex
from intaglio.gateway.actions import ActionResult
from intaglio.gateway.enrollment import Enrollment, Preview
from intaglio.gateway.fields import FieldSelection
from intaglio.profiles.model import CertificateProfile
from intaglio.x509.certificates import CertificateInfo, read_certificate

Json = dict[str, Any]

#: Stored status -> what clients of this API call it.
CERTIFICATE_STATUS: Final = {"valid": "normal", "held": "held", "revoked": "revoked", "expired": "expired"}
_SIGNATURE_NAMES: Final = {algorithm.signature_oid: algorithm.signature_name for algorithm in KeyAlgorithm}
#: Clients tell a CA of this platform from others by this name.
_CONNECTOR_ALIASES: Final = {"native": "com.entrust.PKIHub"}


def b64(data: bytes) -> str:
    """Base64 on one line."""
    return base64.b64encode(data).decode("ascii")


def certificate_data(chain: Iterable[bytes]) -> list[Json]:
    """Certificates as clients expect a chain: issuer first, root last."""
    return [{"certificateData": b64(der)} for der in chain]


def period(not_before: datetime, not_after: datetime) -> str:
    """``notBefore/notAfter``."""
    return f"{rfc3339(not_before)}/{rfc3339(not_after)}"


def message(warnings: Sequence[str]) -> Json:
    """The optional message of an answer that succeeded with remarks."""
    if not warnings:
        return {}
    details = [{"message": warning} for warning in warnings]
    told = "There is 1 remark." if len(warnings) == 1 else f"There are {len(warnings)} remarks."
    return {"message": {"code": "warnings", "message": told, "details": details}}


def ca_view(ca: CaView, connector: str, fields: FieldSelection) -> Json:
    """One CA; certificate and chain only when selected."""
    name = _CONNECTOR_ALIASES.get(connector, connector)
    view: Json = {
        "id": ca.full_id,
        "name": ca.label or ca.name,
        "properties": {
            "connector-name": name,
            "connector_name": name,
            "type": ca.kind,
            "issuer_dn": ca.subject.rfc4514,
            "state": ca.state,
            "key_algorithm": str(ca.algorithm or ""),
        },
    }
    if fields.wants("certificate") and ca.chain:
        view["certificate"] = {"certificateData": b64(ca.chain[0])}
    if fields.wants("chain"):
        view["chain"] = certificate_data(ca.chain[1:])
    return fields.prune(view)


def profile_view(profile: CertificateProfile) -> Json:
    """One profile with what a client needs to build a request."""
    validity = profile.validity
    return {
        "id": profile.id,
        "name": profile.title,
        "properties": {
            "cert_lifetime": str(validity.default),
            "cert_lifetime_maximum": str(validity.maximum or ""),
            "issue_ca_certificate": str(profile.is_ca).lower(),
            "key_client_generated": str("csr" in profile.issuance_modes).lower(),
            "key_server_generated": str("p12" in profile.issuance_modes).lower(),
            "key_usage": ",".join(profile.key_usage),
            "extended_key_usage": ",".join(profile.extended_key_usage),
            "extended_key_usage_from_request": str(profile.eku_from_request).lower(),
            "request_extensions": ",".join(sorted(profile.request_extension_oids)),
            "subject_builder": profile.subject_builder.name,
            "subject_template": profile.subject_builder.template or "",
            "key_algorithms": ",".join(profile.key_algorithms),
            "version": str(profile.version),
        },
        "protocols": list(profile.channels),
        "requestedProperties": [
            {"name": entry.name, "description": entry.description, "required": entry.required}
            for entry in profile.requested_properties
        ],
        "subjectAltNameRequirements": [
            {"type": entry.type, "required": entry.required} for entry in profile.san_requirements
        ],
        "subjectVariableRequirements": [
            {"name": entry.name, "description": entry.description, "required": entry.required}
            for entry in profile.subject_variable_requirements
        ],
    }


def enrollment_view(enrollment: Enrollment) -> Json:
    """An issued certificate."""
    issued = enrollment.issued
    view: Json = {
        "id": str(issued.id),
        "status": "issued",
        "profileId": issued.profile,
        "serialNumber": serial_hex(issued.serial),
        "subjectName": issued.subject,
        "issuerName": issued.ca.subject.rfc4514,
        "validityPeriod": period(issued.not_before, issued.not_after),
        "format": enrollment.format.value,
        "body": enrollment.body,
        "properties": dict(enrollment.properties),
    }
    if enrollment.include_chain:
        view["chain"] = certificate_data(issued.chain)
    return view


def preview_view(preview: Preview) -> Json:
    """What would be issued; nothing was."""
    prepared = preview.prepared
    return {
        "status": "validated",
        "subjectName": prepared.subject.rfc4514,
        "subjectAltNames": list(prepared.san.text) if prepared.san is not None else [],
        "validityPeriod": period(prepared.not_before, prepared.not_after),
    }


def recorded_enrollment_view(certificate: StoredCertificate, ca: CaView, fields: FieldSelection) -> Json:
    """A recorded enrolment, as polled by its id."""
    view: Json = {
        "id": str(certificate.id),
        "status": "issued",
        "profileId": certificate.profile,
        "serialNumber": certificate.serial_hex,
        "subjectName": certificate.subject,
        "issuerName": ca.subject.rfc4514,
        "validityPeriod": period(certificate.not_before, certificate.not_after),
        "format": "X509",
        "body": b64(certificate.der),
        "properties": dict(certificate.properties),
    }
    if fields.wants("chain"):
        view["chain"] = certificate_data(ca.chain)
    return fields.prune(view)


def certificate_view(certificate: StoredCertificate) -> Json:
    """A recorded certificate with its status."""
    info = read_certificate(certificate.der)
    view: Json = {
        "id": str(certificate.id),
        "status": CERTIFICATE_STATUS[certificate.state(clock.now())],
        "versionNumber": "3",
        "serialNumber": certificate.serial_hex,
        "signatureAlgID": info.signature_oid,
        "issuerName": info.issuer.rfc4514,
        "validityPeriod": period(certificate.not_before, certificate.not_after),
        "subjectName": certificate.subject,
        "rfc2253EncodedSubjectName": certificate.subject,
        "rfc2253EscapedSubjectName": certificate.subject,
        "subjectAltNames": list(certificate.sans),
        "subjectPublicKeyInfo": {"publicKeyAlg": _key_family(info), "subjectPublicKey": b64(info.spki)},
        "certificateSignatureAlg": _SIGNATURE_NAMES.get(info.signature_oid, info.signature_oid),
        "certificateData": b64(certificate.der),
        "profileId": certificate.profile,
        "issuedAt": rfc3339(certificate.issued_at),
        "properties": dict(certificate.properties),
    }
    if certificate.revoked_at is not None:
        view["revocationInfo"] = _revocation(certificate, certificate.revoked_at)
    if certificate.previous_id is not None:
        view["previousId"] = str(certificate.previous_id)
    return view


def action_view(result: ActionResult) -> Json:
    """A completed action."""
    action = result.action
    view: Json = {
        "type": action.type.value,
        "id": str(result.id),
        "status": "COMPLETED",
        "comment": action.comment or "",
        "succeedIfAlreadyInRequestedState": action.succeedIfAlreadyInRequestedState is not False,
        "properties": result.properties(),
    }
    if result.reason is not None:
        view["reason"] = result.reason.text
    if result.compromise_date is not None:
        view["compromiseDate"] = rfc3339(result.compromise_date)
    return view


def reason_text(reason: RevocationReason | None) -> str:
    """A reason as events carry it; empty when there is none."""
    return "" if reason is None else reason.text


def _revocation(certificate: StoredCertificate, revoked_at: datetime) -> Json:
    info: Json = {"revocationDate": rfc3339(revoked_at), "reason": reason_text(certificate.reason)}
    if certificate.invalidity_date is not None:
        info["compromiseDate"] = rfc3339(certificate.invalidity_date)
    return info


def _key_family(info: CertificateInfo) -> str:
    algorithm = info.key_algorithm
    if algorithm is None:
        return "unknown"
    family = algorithm.value.partition("-")[0].upper()
    return {"ECDSA": "EC", "ML": "ML-DSA"}.get(family, family)
