"""Requests of the management API in the words of the gateway, and the gateway's refusals in ours."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from intaglio.core.errors import IntaglioError, InvalidInput
from intaglio.gateway.schemas import Action, ActionType, EnrollmentRequest
from intaglio.server import problems
from intaglio.server.management import encoding
from intaglio.server.management.certificate_schemas import Comment, Revocation, WantedCertificate

T = TypeVar("T", bound=BaseModel)

#: The gateway's names of fields that are called otherwise here.
_TARGETS = {
    "profileId": "profile",
    "subjectAltNames": "names",
    "subjectVariables": "variables",
    "requiredFormat/protection/password": "pkcs12/password",
    "requiredFormat": "pkcs12",
    "optionalCertificateRequestDetails/subjectDn": "subject",
    "optionalCertificateRequestDetails/validityPeriod": "validity",
    "optionalCertificateRequestDetails/extensions": "extensions",
    "optionalCertificateRequestDetails/keyUsage": "key_usage",
    "optionalCertificateRequestDetails/useSANFromCSR": "names_of_csr",
    "optionalCertificateRequestDetails/keyAlgorithm": "pkcs12/key_algorithm",
    "action/reason": "reason",
    "action/compromiseDate": "compromise_date",
    "action/validityPeriod": "validity",
    "action/csr": "csr",
    "compromiseDate": "compromise_date",
    "validityPeriod": "validity",
}


def enrollment(wanted: WantedCertificate) -> EnrollmentRequest:
    """The same request in the words of the gateway."""
    details = {
        "subjectDn": wanted.subject,
        "validityPeriod": wanted.validity,
        "extensions": [each.model_dump() for each in wanted.extensions],
        "keyUsage": wanted.key_usage,
        "useSANFromCSR": wanted.names_of_csr,
        "keyAlgorithm": wanted.pkcs12.key_algorithm if wanted.pkcs12 else None,
    }
    required: dict[str, Any] = {"format": "X509"}
    if wanted.pkcs12 is not None:
        protection = {"password": wanted.pkcs12.password, "encryption": wanted.pkcs12.compatibility}
        required = {"format": "PKCS12", "protection": protection}
    return _validated(
        EnrollmentRequest,
        {
            "profileId": wanted.profile,
            "csr": None if wanted.csr is None else base64_der(wanted.csr),
            "requiredFormat": required,
            "subjectVariables": [{"type": each.name, "value": each.value} for each in wanted.variables],
            "subjectAltNames": [each.model_dump() for each in wanted.names],
            "properties": wanted.properties,
            "optionalCertificateRequestDetails": details,
        },
    )


def action_of(kind: ActionType, **members: Any) -> Action:
    """An action on a certificate."""
    return _validated(Action, {"type": kind, **members})


def revoking(body: Revocation) -> Action:
    """The action of a revocation; an empty reason is `unspecified`."""
    return action_of(
        ActionType.REVOKE,
        reason=body.reason,
        compromiseDate=body.compromise_date,
        comment=body.comment,
        issueCrl=body.issue_crl,
    )


def commented(kind: ActionType, body: Comment) -> Action:
    """An action that needs no more than a comment."""
    return action_of(kind, comment=body.comment, issueCrl=body.issue_crl)


def base64_der(csr: str) -> str:
    """A request sent as PEM or base64, as the gateway takes it."""
    found = encoding.octets(csr, target="csr")
    return found if isinstance(found, str) else base64.b64encode(found).decode()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Name the field of this API in a refusal that names the gateway's."""
    try:
        yield
    except IntaglioError as error:
        if error.target is not None:
            error.target = _own(error.target)
        error.fields = tuple((_own(target), message) for target, message in error.fields)
        raise


def _validated(model: type[T], members: Mapping[str, Any]) -> T:
    try:
        return model.model_validate(members)
    except ValidationError as error:
        found = problems.invalid_request([{**each, "loc": ("body", *each["loc"])} for each in error.errors()])
        fields = [(_own(target), message) for target, message in found.fields]
        raise InvalidInput(found.detail, remedy=found.remedy, fields=fields) from None


def _own(target: str) -> str:
    path = target.lstrip("/")
    for theirs, ours in _TARGETS.items():
        if path == theirs or path.startswith(f"{theirs}/"):
            return f"/{ours}{path[len(theirs) :]}"
    return target
