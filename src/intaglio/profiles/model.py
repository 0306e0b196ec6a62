"""The certificate profile: everything that decides the contents of a certificate besides the request and the issuer."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput
from intaglio.profiles import vocabulary
from intaglio.profiles.durations import DurationField
from intaglio.profiles.subject_builders import SubjectBuilder
from intaglio.x509 import extensions as x509
from intaglio.x509.attribute_types import BY_ALIAS, BY_OID

Kind = Literal["root", "subordinate", "external-subordinate", "ocsp-signer", "end-entity"]
Mode = Literal["csr", "p12"]
#: ``platform`` is the platform asking itself (CA certificates, OCSP signers), ``mtls`` the registry of identities
#: saying who somebody is; everything else is a way in from outside.
Channel = Literal[
    "platform", "console", "gateway-api", "acme", "est", "scep", "cmp", "wstep", "intune", "mdmws", "mtls"
]  # fmt: skip
UnlistedExtension = Literal["drop", "reject", "by-channel"]

#: Where ``by-channel`` rejects: callers that read an error and can ask again. Protocol clients cannot, there it drops.
REJECTING_CHANNELS = frozenset({"console", "gateway-api"})

BUILT_IN_KEY_ALGORITHMS = (
    KeyAlgorithm.ECDSA_P256,
    KeyAlgorithm.ECDSA_P384,
    KeyAlgorithm.ECDSA_P521,
    KeyAlgorithm.RSA_2048,
    KeyAlgorithm.RSA_3072,
    KeyAlgorithm.RSA_4096,
)


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("names the same thing twice")
    return values


def _purpose(text: str) -> str:
    return vocabulary.purpose_name(vocabulary.purpose_oid(text))


def _request_extension(text: str) -> str:
    if text.upper() in vocabulary.REQUEST_EXTENSION_SETS:
        return text.upper()
    oid = vocabulary.extension_oid(text)
    if oid in vocabulary.UNREQUESTABLE_EXTENSIONS:
        raise ValueError(f"{vocabulary.extension_name(oid)} is written by the authority and cannot come from a request")
    return vocabulary.extension_name(oid)


def _dashes(text: Any) -> Any:
    return text.replace("_", "-") if isinstance(text, str) else text


def _attribute_type(text: str) -> str:
    known = BY_ALIAS.get(text.lower()) or BY_OID.get(text)
    if known is None:
        raise ValueError(f'"{text}" is not an attribute type of distinguished names')
    return known.name


def _key_algorithm(value: Any) -> Any:
    try:
        return KeyAlgorithm.parse(value) if isinstance(value, str) else value
    except InvalidInput as error:
        raise ValueError(str(error)) from None


ProfileId = Annotated[
    str, BeforeValidator(_dashes), Field(min_length=3, max_length=96, pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")
]
KeyUsages = Annotated[
    tuple[Annotated[str, AfterValidator(vocabulary.key_usage)], ...], Field(min_length=1), AfterValidator(_unique)
]
Purposes = Annotated[
    tuple[Annotated[str, AfterValidator(_purpose)], ...], Field(max_length=32), AfterValidator(_unique)
]
RequestExtensions = Annotated[
    tuple[Annotated[str, AfterValidator(_request_extension)], ...], Field(max_length=32), AfterValidator(_unique)
]
Policies = Annotated[
    tuple[Annotated[str, AfterValidator(vocabulary.policy_oid)], ...], Field(max_length=32), AfterValidator(_unique)
]
KeyAlgorithms = Annotated[
    tuple[Annotated[KeyAlgorithm, BeforeValidator(_key_algorithm)], ...], Field(min_length=1), AfterValidator(_unique)
]
AttributeTypes = Annotated[
    tuple[Annotated[str, AfterValidator(_attribute_type)], ...], Field(max_length=32), AfterValidator(_unique)
]
ShortText = Annotated[str, Field(min_length=1, max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Validity(_Part):
    """How long a certificate lives. ``default`` serves a silent request; with ``fixed`` no request may say otherwise.

    No certificate outlives its issuer, whatever stands here.
    """

    default: DurationField
    maximum: DurationField | None = None
    fixed: bool = False


class BasicConstraints(_Part):
    """Whether the subject is a CA and how many CA certificates may follow below it (None: any number)."""

    ca: bool = False
    path_length: Annotated[int, Field(ge=0, le=16)] | None = None


class SubjectVariable(_Part):
    """A value a client is asked for, to build the subject from."""

    name: ShortText
    description: str = Field(default="", max_length=500)
    required: bool


class RequestedProperty(_Part):
    """A fact a client is asked for, to be kept with the certificate; nothing of it goes into the certificate."""

    name: ShortText
    description: str = Field(default="", max_length=500)
    required: bool


class SanRequirement(_Part):
    """A type of subject alternative name that is asked for."""

    type: Annotated[str, AfterValidator(vocabulary.general_name_type)]
    required: bool


class MinimumKeySize(_Part):
    """A floor for the subject's key, in bits. ``log`` lets a smaller key pass with a warning."""

    action: Literal["off", "log", "block"] = "off"
    rsa: Annotated[int, Field(ge=1024, le=16384)] | None = None
    ecc: Annotated[int, Field(ge=160, le=521)] | None = None


class CertificateProfile(_Part):
    """One certificate profile. Declarations are read with `intaglio.profiles.declarations`."""

    id: ProfileId
    title: ShortText
    group: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9-]+$")]
    version: Annotated[int, Field(ge=1)] = 1
    kind: Kind = "end-entity"
    exposed: bool = Field(default=True, description="Offered for selection and listed to clients.")
    configurable: bool = Field(default=True, description="May be cloned into a custom profile.")
    based_on: str | None = Field(default=None, description='What a custom profile was cloned from: "id version".')

    issuance_modes: Annotated[tuple[Mode, ...], Field(min_length=1), AfterValidator(_unique)] = ("csr",)
    channels: Annotated[tuple[Channel, ...], Field(min_length=1), AfterValidator(_unique)]
    key_algorithms: KeyAlgorithms = BUILT_IN_KEY_ALGORITHMS
    minimum_keysize: MinimumKeySize = MinimumKeySize()

    subject_required: AttributeTypes = Field(
        default=(), description="Attribute types (alias or OID) the subject must have; empty: any subject."
    )
    subject_variable_requirements: Annotated[tuple[SubjectVariable, ...], Field(max_length=32)] = ()
    subject_builder: SubjectBuilder = Field(
        default=SubjectBuilder(), description="What makes the subject of a request that does not spell it out."
    )
    san_requirements: Annotated[tuple[SanRequirement, ...], Field(max_length=16)] = ()
    fill_san_dns_with_cn: bool = False
    copy_cn_to_san: bool = Field(
        default=False, description="Add every CN as iPAddress, rfc822Name or dNSName, whichever it has the form of."
    )
    require_san_for_server: bool = Field(
        default=False, description="Refuse serverAuth without a DNS name or IP address; otherwise only warn."
    )

    requested_properties: Annotated[tuple[RequestedProperty, ...], Field(max_length=32)] = ()

    key_usage: KeyUsages
    on_csr_key_usage_mismatch: Literal["ignore", "reject"] = "ignore"
    extended_key_usage: Purposes = ()
    extended_key_usage_critical: bool = False
    eku_from_request: bool = False
    eku_allow: Purposes = Field(default=(), description="Dangerous purposes a request may obtain all the same.")
    eku_default: Purposes = Field(default=(), description="Purposes when the request names none.")
    request_extensions: RequestExtensions = ()
    on_unlisted_extension: UnlistedExtension = "by-channel"

    certificate_policies: Policies = ()
    basic_constraints: BasicConstraints = BasicConstraints()
    validity: Validity
    aia: Literal["never", "if-ocsp-enabled", "always"] = "if-ocsp-enabled"
    cdp: Literal["never", "always"] = "always"
    ocsp_no_check: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in _contradictions(self):
            raise ValueError(problem)
        return self

    @cached_property
    def purpose_oids(self) -> tuple[str, ...]:
        """The fixed extended key usages as dotted OIDs, in declared order."""
        return tuple(map(vocabulary.purpose_oid, self.extended_key_usage))

    @cached_property
    def default_purpose_oids(self) -> tuple[str, ...]:
        """What a request that names no purpose gets, as dotted OIDs."""
        return tuple(map(vocabulary.purpose_oid, self.eku_default)) if self.eku_from_request else self.purpose_oids

    @cached_property
    def refused_purpose_oids(self) -> frozenset[str]:
        """Purposes no request obtains from this profile, as dotted OIDs."""
        return vocabulary.DANGEROUS_PURPOSES - set(map(vocabulary.purpose_oid, self.eku_allow))

    @cached_property
    def request_extension_oids(self) -> frozenset[str]:
        """What a request may bring as an extension, as dotted OIDs, the named sets resolved.

        Extended key usage is in it exactly when ``eku_from_request`` says so.
        """
        names = [
            member
            for entry in self.request_extensions
            for member in vocabulary.REQUEST_EXTENSION_SETS.get(entry, (entry,))
        ]
        oids = set(map(vocabulary.extension_oid, names)) - {x509.EXTENDED_KEY_USAGE}
        if self.eku_from_request:
            oids.add(x509.EXTENDED_KEY_USAGE)
        if self.certificate_policies:
            oids.discard(x509.CERTIFICATE_POLICIES)
        return frozenset(oids)

    @cached_property
    def required_attribute_oids(self) -> tuple[tuple[str, str], ...]:
        """(name, dotted OID) of the attribute types the subject must have."""
        return tuple((name, BY_ALIAS[name.lower()].oid) for name in self.subject_required)

    @property
    def is_ca(self) -> bool:
        """Whether certificates of this profile are CA certificates."""
        return self.basic_constraints.ca

    @property
    def has_basic_constraints(self) -> bool:
        """Whether certificates say that they are a CA's or not; those of OCSP responders leave it out."""
        return self.kind != "ocsp-signer"

    @property
    def required_san_types(self) -> tuple[str, ...]:
        """General name types without which nothing is issued."""
        return tuple(entry.type for entry in self.san_requirements if entry.required)

    @property
    def required_variables(self) -> tuple[str, ...]:
        """Names of the subject variables without which nothing is issued."""
        return tuple(entry.name for entry in self.subject_variable_requirements if entry.required)


def _contradictions(profile: CertificateProfile) -> list[str]:
    """What a declaration may not say at the same time; each entry is one sentence about one rule."""
    return [
        *_authority_contradictions(profile),
        *_name_contradictions(profile),
        *_purpose_contradictions(profile),
        *_validity_contradictions(profile),
    ]


def _authority_contradictions(profile: CertificateProfile) -> list[str]:
    found = []
    ca_kind = profile.kind in ("root", "subordinate", "external-subordinate")
    signing = {"keyCertSign", "cRLSign"} & set(profile.key_usage)
    if ca_kind != profile.is_ca:
        found.append(f"a profile of kind {profile.kind} {'must' if ca_kind else 'cannot'} have basic_constraints.ca")
    if profile.is_ca and "keyCertSign" not in profile.key_usage:
        found.append("a CA certificate needs keyCertSign (RFC 5280 section 4.2.1.3)")
    if not profile.is_ca and signing:
        found.append(f"{', '.join(sorted(signing))} is only for CA certificates (RFC 5280 section 4.2.1.3)")
    if not profile.is_ca and profile.basic_constraints.path_length is not None:
        found.append("path_length is only for CA certificates (RFC 5280 section 4.2.1.9)")
    if {"encipherOnly", "decipherOnly"} & set(profile.key_usage) and "keyAgreement" not in profile.key_usage:
        found.append("encipherOnly and decipherOnly mean nothing without keyAgreement (RFC 5280 section 4.2.1.3)")
    if profile.kind != "end-entity" and "p12" in profile.issuance_modes:
        found.append(f"a profile of kind {profile.kind} cannot offer the mode p12: its subject holds its own key")
    if profile.ocsp_no_check and profile.kind != "ocsp-signer":
        found.append("ocsp_no_check is only for OCSP signers (RFC 6960 section 4.2.2.2.1)")
    return found


def _name_contradictions(profile: CertificateProfile) -> list[str]:
    found = []
    if profile.fill_san_dns_with_cn and profile.copy_cn_to_san:
        found.append("fill_san_dns_with_cn and copy_cn_to_san are two ways to do the same; choose one")
    names = [entry.name for entry in profile.subject_variable_requirements]
    for placeholder in profile.subject_builder.unknown_placeholders(names):
        found.append(
            f"nothing can fill <{placeholder}> of the subject template: it is neither a subject variable of the "
            "profile nor an attribute type"
        )
    return found


def _purpose_contradictions(profile: CertificateProfile) -> list[str]:
    found = []
    if profile.eku_from_request and profile.extended_key_usage:
        found.append("extended_key_usage is fixed; with eku_from_request write eku_default instead")
    if profile.eku_default and not profile.eku_from_request:
        found.append("eku_default needs eku_from_request")
    if profile.eku_allow and not profile.eku_from_request:
        found.append("eku_allow needs eku_from_request")
    if "extendedKeyUsage" in profile.request_extensions and not profile.eku_from_request:
        found.append("to accept extended key usages from the request set eku_from_request")
    named = {*profile.extended_key_usage, *profile.eku_allow, *profile.eku_default}
    if "OCSPSigning" in named and profile.kind != "ocsp-signer":
        found.append("OCSPSigning speaks for the CA and is only for OCSP signers (RFC 6960 section 4.2.2.2)")
    dangerous = set(profile.eku_default) & set(map(vocabulary.purpose_name, profile.refused_purpose_oids))
    if dangerous:
        found.append(f"eku_default may not hand out {', '.join(sorted(dangerous))} unasked")
    if "anyExtendedKeyUsage" in profile.extended_key_usage and profile.extended_key_usage_critical:
        found.append("anyExtendedKeyUsage should not stand in a critical extension (RFC 5280 section 4.2.1.12)")
    return found


def _validity_contradictions(profile: CertificateProfile) -> list[str]:
    default, maximum = profile.validity.default, profile.validity.maximum
    if maximum is not None and (default.months, default.seconds) != (maximum.months, maximum.seconds):
        days = [length.months * 30.44 + length.seconds / 86400 for length in (default, maximum)]
        if days[0] > days[1]:
            return [f"validity.default {default} is longer than validity.maximum {maximum}"]
    return []
