"""Request bodies of the gateway API, and the tolerances that existing clients rely on.

Unknown fields are ignored with a warning, ``null`` and empty strings mean absent, booleans may come as strings.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)

from intaglio.core.errors import InvalidInput

ModelType = TypeVar("ModelType", bound=BaseModel)

MAX_NAMES = 100
MAX_VARIABLES = 100
MAX_EXTENSIONS = 50
MAX_PROPERTIES = 100
_MAX_PROBLEMS = 20
_BOOLEANS = {"true": True, "false": False, "": None}
_SECRET_FIELDS = frozenset({"password", "encodedPrivateKey"})


def _absent_when_empty(value: Any) -> Any:
    return None if value == "" else value


def _empty_when_null(value: Any) -> Any:
    return () if value is None else value


def _boolean(value: Any) -> Any:
    return _BOOLEANS.get(value.strip().lower(), value) if isinstance(value, str) else value


def _text_of_scalar(value: Any) -> Any:
    """Clients put numbers, booleans and nulls into the string map of properties."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else value


def _no_nul(text: str) -> str:
    # PostgreSQL stores no NUL in text.
    if "\0" in text:
        raise ValueError("contains a NUL character")
    return text


def decode_base64(text: str) -> bytes:
    """The octets of base64 ``text``; white space is ignored. Raises ValueError."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None


Text = Annotated[str, Field(max_length=4096), AfterValidator(_no_nul)]
OptionalText = Annotated[Text | None, BeforeValidator(_absent_when_empty)]
Boolean = Annotated[bool | None, BeforeValidator(_boolean)]
Encoded = Annotated[str | None, Field(max_length=262_144), BeforeValidator(_absent_when_empty)]
Dotted = Annotated[str, Field(pattern=r"^[0-2](\.(0|[1-9][0-9]{0,18})){1,31}$", max_length=255)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    def unknown_fields(self, prefix: str = "") -> list[str]:
        """Names of the fields that were sent and are not known, prefixed."""
        return [prefix + name[:60] for name in self.model_extra or ()]


class Format(StrEnum):
    """How the certificate comes back. X509 is base64 DER, PKCS12 and PKCS7 are base64, PEM is text."""

    X509 = "X509"
    PEM = "PEM"
    PKCS7 = "PKCS7"
    PKCS12 = "PKCS12"


class Protection(_Body):
    """How a PKCS#12 structure is protected. The password may contain any character."""

    type: Literal["PasswordProtection"] = "PasswordProtection"
    password: Annotated[SecretStr, Field(max_length=1024)]
    encryption: Literal["modern", "legacy"] = "modern"


class RequiredFormat(_Body):
    """The wanted format; PKCS12 needs ``protection``."""

    format: Annotated[Format, BeforeValidator(lambda v: v.strip().upper() if isinstance(v, str) else v)] = Format.X509
    protection: Protection | None = None


class SubjectVariable(_Body):
    """A value to build the subject from: an attribute type or the name of a variable of the profile."""

    type: Annotated[str, Field(min_length=1, max_length=200)]
    value: Text


class SubjectAltName(_Body):
    """A subject alternative name, as text or as base64 DER of the whole GeneralName."""

    type: Annotated[str, Field(min_length=1, max_length=100)]
    value: OptionalText = None
    der: Encoded = None


class RequestedExtensionBody(_Body):
    """An extension: base64 DER of its value, or for the extended key usage a dotted OID."""

    oid: Dotted
    critical: Boolean = False
    value: Annotated[str, Field(min_length=1, max_length=65_536)]


class CertificateRequestDetails(_Body):
    """What the caller asks for besides the certificate request; most of it depends on the role."""

    subjectDn: OptionalText = None
    validityPeriod: OptionalText = Field(
        default=None, validation_alias=AliasChoices("validityPeriod", "validity_period")
    )
    privateKeyUsagePercentage: Annotated[int | None, Field(ge=1, le=100)] = None
    extensions: Annotated[
        tuple[RequestedExtensionBody, ...], BeforeValidator(_empty_when_null), Field(max_length=MAX_EXTENSIONS)
    ] = ()
    keyUsage: Annotated[tuple[Text, ...] | None, Field(max_length=9)] = None
    useSANFromCSR: Boolean = None
    performPOP: Boolean = None
    encodedPublicKey: Encoded = None
    encodedPrivateKey: Annotated[SecretStr | None, BeforeValidator(_absent_when_empty)] = None
    keyAlgorithm: OptionalText = None
    forceIssuance: Boolean = None


class EnrollmentRequest(_Body):
    """Body of an enrolment."""

    profileId: Annotated[str, Field(min_length=1, max_length=200)]
    csr: Encoded = None
    requiredFormat: Annotated[RequiredFormat, BeforeValidator(lambda v: {} if v is None else v)] = RequiredFormat()
    subjectVariables: Annotated[
        tuple[SubjectVariable, ...], BeforeValidator(_empty_when_null), Field(max_length=MAX_VARIABLES)
    ] = ()
    subjectAltNames: Annotated[
        tuple[SubjectAltName, ...], BeforeValidator(_empty_when_null), Field(max_length=MAX_NAMES)
    ] = ()
    includeCa: Boolean = None
    previousSubjectDn: OptionalText = None
    properties: Annotated[
        dict[
            Annotated[str, Field(max_length=200), AfterValidator(_no_nul)],
            Annotated[Text, BeforeValidator(_text_of_scalar)],
        ],
        BeforeValidator(lambda v: {} if v is None else v),
        Field(max_length=MAX_PROPERTIES),
    ] = {}
    optionalCertificateRequestDetails: Annotated[
        CertificateRequestDetails, BeforeValidator(lambda v: {} if v is None else v)
    ] = CertificateRequestDetails()

    def ignored_fields(self) -> list[str]:
        """What is in the body and not known, nested names dotted; no more than are worth telling."""
        found = self.unknown_fields() + self.requiredFormat.unknown_fields("requiredFormat.")
        found += self.optionalCertificateRequestDetails.unknown_fields("optionalCertificateRequestDetails.")
        return found[:_MAX_PROBLEMS]


class ActionType(StrEnum):
    """What can be done to a certificate or to all certificates of a subject."""

    HOLD = "HoldAction"
    UNHOLD = "UnholdAction"
    REVOKE = "RevokeAction"
    DEACTIVATE = "DeactivateAction"
    REACTIVATE = "ReactivateAction"
    RENEW = "RenewAction"
    REISSUE = "ReissueAction"
    RECOVER = "RecoverAction"


class Action(_Body):
    """One action. ``csr``, ``requiredFormat``, ``validityPeriod`` and ``includeCa`` serve Renew and Reissue only."""

    type: ActionType
    reason: OptionalText = None
    comment: Annotated[str, Field(max_length=1000), AfterValidator(_no_nul)] | None = None
    issueCrl: Boolean = None
    compromiseDate: Annotated[datetime | None, BeforeValidator(_absent_when_empty)] = None
    succeedIfAlreadyInRequestedState: Boolean = None
    csr: Encoded = None
    requiredFormat: Annotated[RequiredFormat, BeforeValidator(lambda v: {} if v is None else v)] = RequiredFormat()
    validityPeriod: OptionalText = None
    includeCa: Boolean = None
    properties: Annotated[Mapping[str, Any], BeforeValidator(lambda v: {} if v is None else v)] = {}


class ActionRequest(_Body):
    """Body of an action."""

    action: Action


def read_body(model: type[ModelType], body: bytes) -> ModelType:
    """Parse and validate a JSON body. Raises InvalidInput (``request-malformed``) naming every faulty field by JSON
    pointer (RFC 6901)."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
    found = [(_pointer(problem["loc"]), problem["msg"]) for problem in problems[:_MAX_PROBLEMS]]
    value = _quotable(problems[0])
    raise InvalidInput(
        f"{found[0][1]}{f' (at {found[0][0]})' if found[0][0] else ''}.",
        code="request-malformed",
        remedy="Correct the body; the OpenAPI document at /cagw/openapi.json describes it.",
        target=found[0][0] or None,
        fields=found,
        extra={"step": "schema", **({} if value is None else {"value": value})},
    )


def _pointer(location: tuple[int | str, ...]) -> str:
    """pydantic names the alternatives of a union in its locations; they are no part of the document."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')[:80]}" for part in location)


def _quotable(problem: Any) -> str | None:
    """The offending value when it is a short scalar and no secret."""
    if problem["type"] == "json_invalid" or any(part in _SECRET_FIELDS for part in problem["loc"]):
        return None
    value = problem["input"]
    return str(value)[:80] if isinstance(value, str | int | float | bool) else None
