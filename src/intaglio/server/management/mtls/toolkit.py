"""The key toolkit over HTTP: the same functions as `intaglio keytool`. Nothing that is sent here is stored or logged.

Keys made here travel; whoever can run `intaglio keytool` where the key is used should prefer that.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key, spki
from intaglio.core import clock
from intaglio.core.effort import costly
from intaglio.core.errors import InvalidInput
from intaglio.mtls.toolkit import (
    advice,
    certificates,
    conversion,
    inspection,
    keys,
    passwords,
    pbe,
    requests,
    sharing,
    verification,
)
from intaglio.mtls.toolkit.choices import chosen_from
from intaglio.mtls.toolkit.pkcs12_reader import open_pkcs12
from intaglio.mtls.toolkit.pkcs12_writer import Protection, Variant, encode_pkcs12
from intaglio.mtls.toolkit.signatures import Digest
from intaglio.server.management.access import Asker
from intaglio.x509.certificates import pem, read_certificates
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import EMPTY_NAME, Name
from intaglio.x509.requests import parse_request, request_pem

router = APIRouter(prefix="/toolkit/v1", tags=["key toolkit"])

_LONGEST = 6_000_000  # characters; base64 of somewhat more than what the readers take
Octets = Field(max_length=_LONGEST, description="PEM, or DER in base64.")
Iterations = Field(default=pbe.DEFAULT_ITERATIONS, ge=pbe.FEWEST_ITERATIONS, le=1_000_000)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewKey(_Body):
    """``password`` protects the key; without one a password is generated and returned, shown this once."""

    algorithm: str = "P-256"
    password: SecretStr | None = None
    encryption: str = "aes-256"
    iterations: int = Iterations


class KeyMade(BaseModel):
    key: str = Field(description="PKCS #8 in PEM, encrypted.")
    key_algorithm: str
    spki_pin: str
    password: str | None = Field(description="The generated password; null when one was given.")


class NamedValue(_Body):
    type: str
    value: str


class NewRequest(_Body):
    key: str = Octets
    password: SecretStr | None = None
    subject: str = ""
    names: list[NamedValue] = Field(default_factory=list, max_length=100)
    digest: str = "sha256"


class Pem(BaseModel):
    pem: str


class NewSelfSigned(_Body):
    """``self_signed`` must be true: such a certificate proves nothing to whoever does not pin it.

    Certificates from a CA are issued at `/api/v1/cas/{ca}/certificates`.
    """

    csr: str = Octets
    key: str = Octets
    password: SecretStr | None = None
    self_signed: Literal[True]
    days: int = certificates.DEFAULT_DAYS
    digest: str = "sha256"
    server_too: bool = False


class NewPkcs12(_Body):
    """``certificate`` may be followed by its issuers."""

    key: str = Octets
    key_password: SecretStr | None = None
    certificate: str = Octets
    password: SecretStr
    name: str = Field(default="", max_length=256)
    variant: str = "aes-256"
    iterations: int = Iterations
    mac_iterations: int = Iterations


class Pkcs12Made(BaseModel):
    pkcs12: str = Field(description="Base64.")
    warnings: list[str]


class Pkcs12Given(_Body):
    pkcs12: str = Field(max_length=1_500_000, description="Base64.")
    password: SecretStr


class Pkcs12Opened(BaseModel):
    """The key comes back encrypted under the same password."""

    key: str | None
    certificate: str | None
    chain: str
    friendly_name: str | None


class Given(_Body):
    data: str = Octets
    password: SecretStr | None = None


class InspectedObject(BaseModel):
    kind: str
    facts: dict[str, Any]
    warnings: list[str]


class Conversion(_Body):
    data: str = Octets
    to: str = Field(description="pem, der or p7b.")


class Converted(BaseModel):
    data: str = Field(description="PEM, or DER in base64.")


class Verification(_Body):
    """``at`` is the moment to judge by; now when left out."""

    certificate: str = Field(max_length=_LONGEST, description="PEM, leaf first; further ones help to build the chain.")
    trusted: str = Field(max_length=_LONGEST, description="PEM.")
    purpose: Literal["client", "server", "any"] = "any"
    host: str | None = Field(default=None, max_length=253)
    crls: list[str] = Field(default_factory=list, max_length=20)
    ocsp: list[str] = Field(default_factory=list, max_length=20)
    require_status: bool = False
    at: datetime | None = None


class VerificationStep(BaseModel):
    name: str
    holds: bool | None
    why: str


class Verdict(BaseModel):
    valid: bool
    reason: str
    steps: list[VerificationStep]
    chain: list[str]


class CertificateGiven(_Body):
    certificate: str = Octets


class SharedParts(BaseModel):
    pem: str
    der: str = Field(description="Base64.")
    sha256: str
    spki_pin: str
    subject: str
    issuer: str
    serial_number: str
    not_after: datetime


class PasswordWish(_Body):
    bits: int = passwords.DEFAULT_BITS


class PasswordMade(BaseModel):
    password: str


class PasswordGiven(_Body):
    password: SecretStr
    known: list[str] = Field(default_factory=list, max_length=20)


class PasswordStrength(BaseModel):
    """``score`` is 0 to 4."""

    score: int
    sufficient: bool
    advice: str


class Choice(_Body):
    algorithm: str = "P-256"
    digest: str = "sha256"
    variant: str | None = None
    systems: list[str] = Field(default_factory=list, max_length=50)


class Remark(BaseModel):
    system: str
    problem: str
    instead: str


class ChoiceAdvice(BaseModel):
    """``safest`` is a choice that all of the systems take."""

    remarks: list[Remark]
    safest: dict[str, str]


@router.post("/keys")
async def make_key(asker: Asker, body: NewKey) -> KeyMade:
    """Generate a private key, encrypted. Refused with 429 to who asks for too much at a time, like all here."""
    algorithm = KeyAlgorithm.parse(body.algorithm)
    encryption = chosen_from(pbe.Encryption, body.encryption, "encryption")
    generated = None if body.password is not None else passwords.generate()
    password = generated or _strong(body.password)
    key = await costly.run(asker, lambda: generate_private_key(algorithm))
    made = await costly.run(
        asker, lambda: keys.encode_key(key, password, encryption=encryption, iterations=body.iterations)
    )
    pin = sharing.spki_pin(spki(key.public_key()))
    return KeyMade(key=made.decode(), key_algorithm=algorithm.value, spki_pin=pin, password=generated)


@router.post("/requests")
async def make_certificate_request(asker: Asker, body: NewRequest) -> Pem:
    """Make a certificate request for a private key."""
    subject = Name.parse(body.subject) if body.subject else EMPTY_NAME
    names = GeneralNames.build([(each.type, each.value) for each in body.names]) if body.names else None
    digest = chosen_from(Digest, body.digest, "digest")
    data, password = _octets(body.key, "key"), _secret(body.password)

    def make() -> bytes:
        return requests.make_request(keys.read_key(data, password), subject, names, digest)

    return Pem(pem=request_pem(await costly.run(asker, make)))


@router.post("/certificates")
async def make_self_signed(asker: Asker, body: NewSelfSigned) -> Pem:
    """Sign a request with its own key."""
    request = parse_request(_octets(body.csr, "csr"))
    digest = chosen_from(Digest, body.digest, "digest")
    data, password = _octets(body.key, "key"), _secret(body.password)
    eku = (certificates.CLIENT_AUTH, *((certificates.SERVER_AUTH,) if body.server_too else ()))

    def make() -> bytes:
        key = keys.read_key(data, password)
        return certificates.self_signed(request, key, now=clock.now(), days=body.days, digest=digest, eku=eku)

    return Pem(pem=pem(await costly.run(asker, make)))


@router.post("/pkcs12")
async def make_pkcs12(asker: Asker, body: NewPkcs12) -> Pkcs12Made:
    """Put key and certificate into a PKCS #12 file."""
    leaf, *chain = read_certificates(_octets(body.certificate, "certificate"))
    variant = chosen_from(Variant, body.variant, "variant")
    protection = Protection(variant, body.iterations, body.mac_iterations)
    password = _strong(body.password, tuple(leaf.subject.common_names))
    data, key_password = _octets(body.key, "key"), _secret(body.key_password)
    name = body.name or next(iter(leaf.subject.common_names), "")

    def make() -> bytes:
        key = keys.read_key(data, key_password)
        others = [each.der for each in chain]
        return encode_pkcs12(key, leaf.der, others, password, friendly_name=name, protection=protection)

    made = await costly.run(asker, make)
    same = key_password is not None and passwords.same(key_password, password)
    warnings = ["Key file and PKCS #12 have the same password; give each its own."] if same else []
    return Pkcs12Made(pkcs12=base64.b64encode(made).decode(), warnings=warnings)


@router.post("/pkcs12/open")
async def take_pkcs12_apart(asker: Asker, body: Pkcs12Given) -> Pkcs12Opened:
    """Key, certificate and chain of a PKCS #12 file."""
    data, password = _octets(body.pkcs12, "pkcs12"), body.password.get_secret_value()
    content = await costly.run(asker, lambda: open_pkcs12(data, password))
    key = None if content.key is None else await costly.run(asker, lambda: keys.encode_key(content.key, password))
    return Pkcs12Opened(
        key=None if key is None else key.decode(),
        certificate=pem(content.certificate) if content.certificate else None,
        chain=conversion.bundle(content.chain),
        friendly_name=content.friendly_name,
    )


@router.post("/inspect")
async def inspect_file(asker: Asker, body: Given) -> list[InspectedObject]:
    """Say what a file is, and what is wrong with it."""
    data, password = _octets(body.data, "data"), _secret(body.password)
    found = await costly.run(asker, lambda: inspection.inspect(data, now=clock.now(), password=password))
    return [InspectedObject(kind=each.kind, facts=each.facts, warnings=list(each.warnings)) for each in found]


@router.post("/convert")
async def convert_file(asker: Asker, body: Conversion) -> Converted:
    """The same content in PEM, DER or PKCS #7."""
    wanted = chosen_from(conversion.Format, body.to, "to")
    made = conversion.convert(_octets(body.data, "data"), wanted)
    return Converted(data=made.decode() if b"-----BEGIN" in made else base64.b64encode(made).decode())


@router.post("/verify")
async def verify_certificate(asker: Asker, body: Verification) -> Verdict:
    """Verify a certificate, and say at every step what was found. Nothing is fetched."""
    leaf, *others = read_certificates(body.certificate)
    trusted = read_certificates(body.trusted)
    at = body.at or clock.now()
    if at.tzinfo is None:
        raise InvalidInput("The moment needs a time zone.", code="moment-invalid", target="at")
    asked = verification.Question(
        at=at,
        purpose=body.purpose,
        host=body.host,
        crls=[_octets(each, "crls") for each in body.crls],
        ocsp=[_octets(each, "ocsp") for each in body.ocsp],
        require_status=body.require_status,
    )
    found = await costly.run(asker, lambda: verification.verify(leaf, others, trusted, asked))
    return Verdict(
        valid=found.valid,
        reason=found.reason,
        steps=[VerificationStep.model_validate(asdict(each)) for each in found.steps],
        chain=[each.subject.rfc4514 for each in found.chain],
    )


@router.post("/share")
async def share_certificate(asker: Asker, body: CertificateGiven) -> SharedParts:
    """What to give to a partner: certificate, fingerprint, pin."""
    found = sharing.share(_octets(body.certificate, "certificate"))
    return SharedParts.model_validate({**asdict(found), "der": base64.b64encode(found.der).decode()})


@router.post("/passwords")
async def make_password(asker: Asker, body: PasswordWish) -> PasswordMade:
    """Generate a password."""
    return PasswordMade(password=passwords.generate(body.bits))


@router.post("/passwords/strength")
async def judge_password(asker: Asker, body: PasswordGiven) -> PasswordStrength:
    """How hard a password is to guess."""
    found = passwords.strength(body.password.get_secret_value()[:1000], known=tuple(body.known))
    return PasswordStrength.model_validate(asdict(found))


@router.post("/advice")
async def advise(asker: Asker, body: Choice) -> ChoiceAdvice:
    """Where a choice of key, digest and PKCS #12 protection will be refused."""
    variant = None if body.variant is None else chosen_from(Variant, body.variant, "variant")
    digest = chosen_from(Digest, body.digest, "digest")
    found = advice.advise(KeyAlgorithm.parse(body.algorithm), digest, variant, body.systems)
    key, safe_digest, safe_variant = advice.safest(body.systems)
    safest = {"algorithm": key.value, "digest": safe_digest.value, "variant": safe_variant.value}
    return ChoiceAdvice(remarks=[Remark.model_validate(asdict(each)) for each in found], safest=safest)


def _octets(text: str, target: str) -> bytes:
    if "-----BEGIN" in text:
        return text.encode("utf-8", "replace")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(
            "This is neither PEM nor base64.",
            code="not-pem-or-base64",
            remedy="Send PEM, or DER in base64.",
            target=target,
        ) from None


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _strong(value: SecretStr | None, known: tuple[str, ...] = ()) -> str:
    password = _secret(value) or ""
    passwords.require_strong(password, known=known)
    return password
