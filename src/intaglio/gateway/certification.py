"""Certification for protocols that prove by themselves who asks: from a proven request to an issued certificate.

The adapters of enrolment protocols come here with a request whose possession is proven; the CA, the profile and the
policies decide as they do for everybody else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority.directory import Snapshot
from intaglio.authority.issuance import Idempotency, Issued, Order
from intaglio.core.errors import InvalidInput, Refused
from intaglio.gateway.callers import Caller
from intaglio.gateway.enrollment import check_properties
from intaglio.gateway.keys import check_key_size
from intaglio.gateway.roles import GatewayPermission
from intaglio.gateway.service import Gateway
from intaglio.profiles.engine import IssuanceInput, RequestedValidity, check_variables
from intaglio.profiles.model import CertificateProfile, Channel, Mode
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name
from intaglio.x509.requests import RequestedExtension


@dataclass(frozen=True)
class ProvenRequest:
    """What is to be certified, its possession proven.

    ``subject`` None: what the profile's builder makes of ``given_subject`` and the names. ``validity`` only shortens
    what the profile would give. ``mode`` says who made the key; whether it may be made here is for the endpoint to
    decide, so a profile that does not know the mode is used all the same. ``previous`` is the certificate that is
    renewed, which has to be valid still when the new one is recorded.
    ``facts`` are what the audit record says besides.
    """

    profile: str
    spki: bytes = field(repr=False)
    key_algorithm: KeyAlgorithm
    given_subject: Name | None
    subject: Name | None
    san: GeneralNames | None
    extensions: tuple[RequestedExtension, ...] = ()
    validity: RequestedValidity | None = None
    previous: UUID | None = None
    mode: Mode = "csr"
    properties: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def digest(self, ca_id: str) -> bytes:
        """SHA-256 over what is asked for, from whom."""
        parts = [
            ca_id,
            self.profile,
            self.spki.hex(),
            None if self.subject is None else self.subject.der.hex(),
            None if self.given_subject is None else self.given_subject.der.hex(),
            None if self.san is None else self.san.der.hex(),
            [[each.oid, each.critical, each.value.hex()] for each in self.extensions],
            str(self.previous),
            str(self.validity),
        ]
        return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()


async def certify(
    gateway: Gateway,
    caller: Caller,
    ca_id: str,
    wanted: ProvenRequest,
    *,
    channel: Channel,
    idempotency_key: str | None = None,
    check: Callable[[Snapshot], None] | None = None,
) -> tuple[Issued, tuple[str, ...]]:
    """Issue what is asked for; the certificate and what is remarkable about it.

    With ``idempotency_key`` (printable ASCII, at most 255 characters, chosen so that it is unique over all callers) the
    same request gets the same certificate. ``check`` is asked about the configuration that is decided on, and may
    refuse. Raises what ``check`` and the steps of issuing raise.
    """
    warnings: list[str] = []

    def decide(snapshot: Snapshot) -> Order:
        if check is not None:
            check(snapshot)
        order, remarks = _order(gateway, caller, ca_id, wanted, channel, snapshot)
        warnings[:] = remarks
        return order

    idempotency = None
    if idempotency_key is not None:
        idempotency = Idempotency(f"{channel}:{ca_id}", idempotency_key, wanted.digest(ca_id))
    _, connector = await gateway.access(caller, ca_id)
    issued = await gateway.issue(caller, connector, decide, idempotency)
    return issued, (*warnings, *issued.warnings)


def _order(
    gateway: Gateway, caller: Caller, ca_id: str, wanted: ProvenRequest, channel: Channel, snapshot: Snapshot
) -> tuple[Order, list[str]]:
    access = caller.access(snapshot, ca_id)
    kind = GatewayPermission.ENROLL_PKCS12 if wanted.mode == "p12" else GatewayPermission.ENROLL_CSR
    access.role.require(kind, "request")
    ca = access.ca
    profile = ca.profile(wanted.profile)
    if profile.kind != "end-entity":  # whatever a profile says of its channels: no applicant becomes a CA
        raise Refused(
            f'Profile "{profile.id}" makes certificates of the kind {profile.kind}, which no applicant gets.',
            code="profile-not-for-enrolment",
            remedy="Choose another profile: intaglio profile list.",
        )
    check_properties(profile, wanted.properties)
    sizes = {"the gateway": gateway.settings(snapshot).minimum_keysize, f"CA {ca.full_id}": ca.options.minimum_keysize}
    warnings = check_key_size(wanted.key_algorithm, sizes)
    order = IssuanceInput(
        subject=_subject(profile, wanted),
        spki=wanted.spki,
        key_algorithm=wanted.key_algorithm,
        channel=channel,
        mode=wanted.mode if wanted.mode in profile.issuance_modes else profile.issuance_modes[0],
        san=wanted.san,
        extensions=wanted.extensions,
        validity=wanted.validity,
        shorten_only=True,
        clamp_validity=True,
    )
    renewal = wanted.previous is not None
    return Order(ca, profile, order, wanted.previous, wanted.properties, renewal=renewal, facts=wanted.facts), warnings


def _subject(profile: CertificateProfile, wanted: ProvenRequest) -> Name:
    check_variables(profile, ())
    if wanted.subject is not None:
        return wanted.subject
    try:
        return profile.subject_builder.subject((), wanted.given_subject, [wanted.san])
    except InvalidInput as error:
        raise InvalidInput(error.detail, code=error.code, remedy=error.remedy, extra={"step": "subject"}) from None
