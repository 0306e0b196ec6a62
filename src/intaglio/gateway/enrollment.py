"""Enrolment: from a request body to an issued certificate, in the order in which it may be refused.

caller and CA -> profile -> fields the role permits -> proof of possession -> key-size policies -> subject and names ->
profile engine (requirements, extensions, validity, lint) -> sign -> commit with event and audit record -> format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import UUID

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey
from intaglio.authority.directory import Snapshot
from intaglio.authority.issuance import Idempotency, Issued, Order
from intaglio.core.errors import InvalidInput, NotSupported, StateConflict
from intaglio.gateway.callers import Access, Caller
from intaglio.gateway.extensions import explicit_extensions
from intaglio.gateway.formats import check_format, encode
from intaglio.gateway.keys import check_key_size, generate_key, read_public_key, sample_public_key, wanted_algorithm
from intaglio.gateway.pointers import DETAILS, of_enrollment, pointing
from intaglio.gateway.roles import GatewayPermission, Role
from intaglio.gateway.schemas import EnrollmentRequest, Format
from intaglio.gateway.service import Gateway
from intaglio.gateway.subjects import alternative_names_of, read_name, subject_of
from intaglio.gateway.validity import parse_validity_period
from intaglio.profiles.engine import IssuanceInput, PreparedCertificate, RequestedValidity
from intaglio.profiles.model import CertificateProfile, Channel, Mode
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name
from intaglio.x509.requests import CertificateRequest, RequestedExtension, parse_request

_MAX_KEY_LENGTH = 255


@dataclass(frozen=True)
class Enrollment:
    """An issued certificate in the format asked for. ``body`` is text: base64 or PEM; ``properties`` are those of the
    request."""

    issued: Issued
    format: Format
    body: str = field(repr=False)
    include_chain: bool
    warnings: tuple[str, ...]
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preview:
    """What an enrolment would issue."""

    prepared: PreparedCertificate
    warnings: tuple[str, ...]


async def enroll(
    gateway: Gateway,
    caller: Caller,
    ca_id: str,
    request: EnrollmentRequest,
    *,
    channel: Channel = "gateway-api",
    idempotency_key: str | None = None,
    stated: tuple[RequestedExtension, ...] = (),
) -> Enrollment:
    """Issue a certificate.

    With ``idempotency_key`` the same request by the same caller is answered with the same certificate. ``stated`` are
    extensions that the platform itself has made. Raises what its steps raise; every refusal of a request names its step
    in ``extra["step"]``.
    """
    with pointing(of_enrollment(request)):
        draft = await _draft(gateway, caller, ca_id, request, channel, dry=False, stated=stated)
        idempotency = None if idempotency_key is None else _idempotency(draft, idempotency_key)
        issued = await gateway.issue(caller, gateway.connector(draft.access.ca), draft.decide, idempotency)
    if issued.repeated and draft.private_key is not None:
        raise StateConflict(
            "The certificate of this Idempotency-Key was issued before, and its private key is not kept.",
            code="private-key-handed-out",
            remedy="If the first answer was lost, revoke the certificate and enrol with a new key.",
            extra={"serialNumber": issued.serial.hex().upper()},
        )
    body = await encode(issued.der, issued.chain, request.requiredFormat, request.includeCa, draft.private_key)
    return Enrollment(
        issued,
        request.requiredFormat.format,
        body,
        bool(request.includeCa),
        (*draft.warnings, *issued.warnings),
        request.properties,
    )


async def preview(
    gateway: Gateway, caller: Caller, ca_id: str, request: EnrollmentRequest, *, channel: Channel = "gateway-api"
) -> Preview:
    """Decide about an enrolment without signing or recording anything. Raises like :func:`enroll`."""
    with pointing(of_enrollment(request)):
        draft = await _draft(gateway, caller, ca_id, request, channel, dry=True)
        prepared = await gateway.connector(draft.access.ca).preview(draft.decide)
    return Preview(prepared, (*draft.warnings, *prepared.warnings))


async def _draft(
    gateway: Gateway,
    caller: Caller,
    ca_id: str,
    request: EnrollmentRequest,
    channel: Channel,
    *,
    dry: bool,
    stated: tuple[RequestedExtension, ...] = (),
) -> _Draft:
    """Everything that takes waiting: making a key, looking up the previous certificate."""
    draft = _Draft(gateway, caller, ca_id, request, channel, stated)
    profile = draft.authorize(await gateway.snapshot())
    if draft.mode == "p12":
        algorithm = wanted_algorithm(request.optionalCertificateRequestDetails.keyAlgorithm, profile)
        if dry:
            draft.generated = sample_public_key(algorithm), algorithm
        else:
            draft.private_key = await generate_key(algorithm, gateway.key_generation)
            draft.generated = algorithms.spki(draft.private_key.public_key()), algorithm
    if request.previousSubjectDn is not None:
        previous = read_name(request.previousSubjectDn, target="/previousSubjectDn")
        ca = draft.access.ca
        draft.previous_id = (await gateway.connector(ca).newest_of(ca, previous)).id
    return draft


@dataclass
class _Draft:
    """One request on its way to an order. What is parsed is kept, so that deciding again costs little."""

    gateway: Gateway
    caller: Caller
    ca_id: str
    request: EnrollmentRequest
    channel: Channel
    stated: tuple[RequestedExtension, ...] = ()
    generated: tuple[bytes, KeyAlgorithm] | None = None
    private_key: PrivateKey | None = field(default=None, repr=False)
    previous_id: UUID | None = None
    warnings: list[str] = field(default_factory=list)
    access: Access = field(init=False)
    _authorized: tuple[Snapshot, CertificateProfile] | None = field(default=None, repr=False)

    def decide(self, snapshot: Snapshot) -> Order:
        """The order this request amounts to under a configuration; raises the refusal."""
        profile = self.authorize(snapshot)
        access, details = self.access, self.request.optionalCertificateRequestDetails
        check_properties(profile, self.request.properties)
        spki, algorithm = self._key
        ca = access.ca
        overall = self.gateway.settings(snapshot).minimum_keysize
        sizes = {"the gateway": overall, f"CA {ca.full_id}": ca.options.minimum_keysize}
        self.warnings = [*self._remarks(), *check_key_size(algorithm, sizes)]
        order = IssuanceInput(
            subject=self._subject(profile),
            spki=spki,
            key_algorithm=algorithm,
            channel=self.channel,
            mode=self.mode,
            san=self._alternative_names,
            extensions=() if self._csr is None else self._csr.extensions,
            explicit_extensions=self._explicit_extensions,
            stated=self.stated,
            key_usage=details.keyUsage,
            validity=self._validity,
            subject_variables=tuple((variable.type, variable.value) for variable in self.request.subjectVariables),
            shorten_only=not access.role.may(GatewayPermission.EXPLICIT_VALIDITY),
            private_key_usage_percentage=details.privateKeyUsagePercentage,
        )
        return Order(ca, profile, order, self.previous_id, self.request.properties)

    def authorize(self, snapshot: Snapshot) -> CertificateProfile:
        """Caller, CA, profile and the fields the role permits. Raises Unauthenticated, Forbidden, NotFound."""
        if self._authorized is not None and self._authorized[0] is snapshot:
            return self._authorized[1]
        self.access = self.caller.access(snapshot, self.ca_id)
        role = self.access.role
        mode = GatewayPermission.ENROLL_PKCS12 if self.mode == "p12" else GatewayPermission.ENROLL_CSR
        role.require(mode, "/requiredFormat/format" if self.mode == "p12" else "/csr")
        profile = self.access.ca.profile(self.request.profileId)
        check_fields(role, self.request, self.mode)
        self._authorized = snapshot, profile
        return profile

    @cached_property
    def mode(self) -> Mode:
        """Who makes the key: p12 when the gateway does. Raises InvalidInput for a format that does not go with it."""
        return check_format(self.request)

    @cached_property
    def _csr(self) -> CertificateRequest | None:
        if self.request.csr is None:
            return None
        proof = self.request.optionalCertificateRequestDetails.performPOP is not False
        try:
            return parse_request(self.request.csr, prove_possession=proof)
        except InvalidInput as error:
            step = "proof-of-possession" if error.code == "proof-of-possession-failed" else "csr"
            raise InvalidInput(
                error.detail, code=error.code, remedy=error.remedy, target="/csr", extra={"step": step}
            ) from None

    @cached_property
    def _external_key(self) -> tuple[bytes, KeyAlgorithm] | None:
        encoded = self.request.optionalCertificateRequestDetails.encodedPublicKey
        return None if encoded is None else read_public_key(encoded, target=f"{DETAILS}/encodedPublicKey")

    @property
    def _key(self) -> tuple[bytes, KeyAlgorithm]:
        if self.generated is not None:
            return self.generated
        if self._csr is not None:
            return self._csr.spki, self._csr.key_algorithm
        if self._external_key is not None:
            return self._external_key
        raise InvalidInput(
            "The request brings no key.",
            code="csr-missing",
            remedy="Send a csr, or ask for the format PKCS12 to have the key made here.",
            target="/csr",
            extra={"step": "csr"},
        )

    def _subject(self, profile: CertificateProfile) -> Name:
        return subject_of(profile, self.request, self._csr)

    @cached_property
    def _alternative_names(self) -> GeneralNames | None:
        switch = self.request.optionalCertificateRequestDetails.useSANFromCSR
        return alternative_names_of(self.request.subjectAltNames, self._csr, switch)

    @cached_property
    def _explicit_extensions(self) -> tuple[RequestedExtension, ...]:
        return explicit_extensions(self.request.optionalCertificateRequestDetails.extensions)

    @cached_property
    def _validity(self) -> RequestedValidity | None:
        text = self.request.optionalCertificateRequestDetails.validityPeriod
        return None if text is None else parse_validity_period(text)

    def _remarks(self) -> Iterator[str]:
        for name in self.request.ignored_fields():
            yield f'the field "{name}" is not known and was ignored'


def check_fields(role: Role, request: EnrollmentRequest, mode: Mode) -> None:
    """Refuse fields that the role may not use, naming the field. Raises Forbidden, NotSupported."""
    details = request.optionalCertificateRequestDetails
    if details.encodedPrivateKey is not None:
        raise NotSupported(
            "This CA does not back up private keys.",
            code="key-backup-not-supported",
            remedy="Leave encodedPrivateKey out.",
            target=f"{DETAILS}/encodedPrivateKey",
            extra={"step": "capability"},
        )
    validity = GatewayPermission.EXPLICIT_VALIDITY if mode == "p12" else GatewayPermission.SHORTEN_VALIDITY
    for present, permission, target in (
        (details.extensions, GatewayPermission.EXPLICIT_EXTENSIONS, f"{DETAILS}/extensions"),
        (details.keyUsage, GatewayPermission.EXPLICIT_EXTENSIONS, f"{DETAILS}/keyUsage"),
        (
            details.privateKeyUsagePercentage,
            GatewayPermission.PRIVATE_KEY_USAGE_PERIOD,
            f"{DETAILS}/privateKeyUsagePercentage",
        ),
        (details.encodedPublicKey, GatewayPermission.EXTERNAL_PUBLIC_KEY, f"{DETAILS}/encodedPublicKey"),
        (
            details.performPOP is False,
            GatewayPermission.OVERRIDE_PROOF_OF_POSSESSION,
            f"{DETAILS}/performPOP",
        ),
        (details.validityPeriod, validity, f"{DETAILS}/validityPeriod"),
        (details.subjectDn, GatewayPermission.SUBJECT_NAMING, f"{DETAILS}/subjectDn"),
        (request.previousSubjectDn, GatewayPermission.SUBJECT_NAMING, "/previousSubjectDn"),
        (request.subjectVariables, GatewayPermission.SUBJECT_NAMING, "/subjectVariables"),
        (request.subjectAltNames, GatewayPermission.ALTERNATIVE_NAMES, "/subjectAltNames"),
    ):
        if present:
            role.require(permission, target)


def check_properties(profile: CertificateProfile, properties: Mapping[str, str]) -> None:
    """Refuse a request without the properties the profile requires; they may be named with the prefix ``tracking.``.

    Raises InvalidInput (``property-required``) naming the property.
    """
    for wanted in profile.requested_properties:
        given = properties.get(wanted.name) or properties.get(f"tracking.{wanted.name}") or ""
        if wanted.required and not given.strip():
            raise InvalidInput(
                f'Profile "{profile.id}" needs the property "{wanted.name}".',
                code="property-required",
                remedy="Send it in properties.",
                target="/properties",
                extra={"step": "properties"},
            )


def _idempotency(draft: _Draft, key: str) -> Idempotency:
    """The key of the caller, and what the request says.

    The password of a PKCS#12 is left out of the hash, which is stored.
    """
    if not 0 < len(key) <= _MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise InvalidInput(
            "The Idempotency-Key must be 1 to 255 printable ASCII characters.",
            code="request-malformed",
            target="Idempotency-Key",
        )
    credential = draft.caller.credential
    issuer = credential.client_ca if credential is not None else draft.caller.principal.kind
    document: dict[str, Any] = draft.request.model_dump(mode="json", exclude={"requiredFormat": {"protection"}})
    canonical = json.dumps([draft.ca_id, document], sort_keys=True, separators=(",", ":"))
    caller = f"{issuer}:{draft.caller.principal.name}"
    return Idempotency(caller, key, hashlib.sha256(canonical.encode()).digest())

