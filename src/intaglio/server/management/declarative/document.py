"""The document: organizations, CAs, custom profiles, live settings, trust domains, identities, policies, ingresses,
pipelines, outbound credentials, status authorities with their directories and signers, timestamp issuers, tokens,
tenants and endpoints of enrolment.

Nothing in it is secret.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from intaglio.authority.cas.values import NewExternalRoot, NewIssuing, NewRoot
from intaglio.core.errors import InvalidInput
from intaglio.enrollment.administration import DEFAULT_TENANT
from intaglio.enrollment.values import Approval, Protocol
from intaglio.mtls.access.ingress_values import FORWARDS
from intaglio.profiles import registry
from intaglio.server.problems import json_pointer
from intaglio.timestamping.values import SignerOptions, TokenProfile
from intaglio.validation.authorities.values import AuthoritySpec, PemText
from intaglio.validation.signers.values import NewSigner

LARGEST: Final = 1 << 20  # octets
_DEEPEST, _MOST_NODES = 12, 50_000
_MOST_FIELDS = 50

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeclaredRoot(NewRoot):
    """A root CA. ``tenants`` are further gateway rights by client name."""

    kind: Literal["root"]
    tenants: dict[str, str] = Field(default_factory=dict)


class DeclaredIssuing(NewIssuing):
    """An issuing CA below ``issuer``, a CA of the same organization."""

    kind: Literal["issuing"]
    tenants: dict[str, str] = Field(default_factory=dict)


class DeclaredExternalRoot(NewExternalRoot):
    """A root kept elsewhere; ``certificate`` is PEM."""

    kind: Literal["external-root"]


def needs_nobody(ca: DeclaredRoot | DeclaredIssuing) -> bool:
    """Whether a CA may be without gateway clients: it issues for identities only, and says that it has none."""
    issues = {registry.normal_id(profile) for profile in ca.profiles}
    return bool(issues) and issues <= set(registry.identity_profiles()) and not (ca.administrators or ca.auditors)


DeclaredCa = Annotated[DeclaredRoot | DeclaredIssuing | DeclaredExternalRoot, Field(discriminator="kind")]


class DeclaredOrganization(_Value):
    """An organization with its CAs; ``members`` are user names, None leaves them as they are."""

    name: str
    description: str = ""
    join_policy: Literal["approval", "open", "invite"] = "approval"
    members: list[str] | None = None
    cas: list[DeclaredCa] = []

    @model_validator(mode="after")
    def _each_once(self) -> DeclaredOrganization:
        _require_unique((ca.name for ca in self.cas), "CA")
        return self


class DeclaredDomain(_Value):
    """A trust domain. ``issuing_ca`` is ``{organization}~{ca}``; a changed one begins a rotation. ``lifetimes`` and
    ``ceilings`` are ISO 8601 durations by kind of identity; kinds that are left out are left alone."""

    name: str
    environment: str
    organization: str
    title: str = ""
    issuing_ca: str | None = None
    anchor: Literal["root", "issuing"] = "root"
    lifetimes: dict[str, str] = {}
    ceilings: dict[str, str] = {}
    required_attributes: list[str] = ["team", "service"]
    dns_suffixes: list[str] = []
    email_domains: list[str] = []
    pki_choice: Literal["own", "aws-private-ca", "vault", "acme", "enterprise"] = "own"


class DeclaredIdentity(_Value):
    """An identity of a trust domain. The name of a user is made by the installation; he is known by ``email``."""

    domain: str
    kind: Literal["user", "device", "workload", "service", "pipeline"]
    name: str = ""
    display_name: str = ""
    email: str = ""
    team: str = ""
    service: str = ""
    roles: list[str] = []
    version: str = ""
    owner: str = ""
    dns_names: list[str] = []
    properties: dict[str, str] = {}

    @property
    def reference(self) -> str:
        """What it is known by: ``kind:name@trust-domain``, for a user the e-mail address in place of the name."""
        return f"{self.kind}:{self.email if self.kind == 'user' else self.name}@{self.domain}"

    @model_validator(mode="after")
    def _named(self) -> DeclaredIdentity:
        if self.kind == "user" and (self.name or not self.email):
            raise ValueError("a user is declared by email, without a name")
        if self.kind != "user" and not self.name:
            raise ValueError("only users are declared without a name")
        return self


class DeclaredCase(_Value):
    """A request and the answer that the policy has to give to it."""

    name: str
    expect: Literal["allow", "deny"]
    identity: dict[str, Any] = {}
    method: str = "GET"
    path: str = "/"
    host: str = ""
    ingress: str = ""
    source_ip: str = ""
    tls_version: str = ""
    issuer: str = ""


class DeclaredPolicy(_Value):
    """An access policy of an organization: the version that counts. It is activated once all of its cases pass."""

    name: str
    organization: str
    source: str
    language: Literal["short", "cedar"] = "short"
    cases: list[DeclaredCase] = []
    description: str = ""

    @property
    def reference(self) -> str:
        """``{organization}~{name}``."""
        return f"{self.organization}~{self.name}"


class DeclaredIngress(_Value):
    """An ingress of an organization; fields that are left out of one that exists are left alone.

    ``ip_rule`` and ``policy`` are taken away by null; an empty ``ip_rule`` denies everybody. ``mode`` is switched as
    people switch it: to ``enforce`` only when nobody entitled would be shut out.
    """

    name: str
    organization: str
    domain: str
    type: str = "nginx"
    description: str = ""
    listener: str = ""
    hosts: list[str] = []
    mode: Literal["off", "permissive", "enforce"] = "permissive"
    ip_rule: list[str] | None = None
    policy: str | None = None
    revocation_source: Literal["live", "crl", "ocsp"] = "live"
    refresh_seconds: int = 10
    forward: list[str] = list(FORWARDS)
    fail_mode: Literal["closed", "open"] = "closed"

    @field_validator("mode", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        # YAML 1.1 reads a bare `off` as false.
        return "off" if value is False else value

    @property
    def reference(self) -> str:
        """``{organization}~{name}``."""
        return f"{self.organization}~{self.name}"


class DeclaredPipeline(_Value):
    """Which tokens of an issuer prove an identity (``kind:name@trust-domain``).

    ``conditions`` are accepted values by claim; ``lifetime`` is an ISO 8601 duration, what the trust domain gives when
    it is left out; ``issuer_ca`` is PEM. What is left out of one that exists is left alone.
    """

    name: str
    identity: str
    issuer: str
    audience: str
    conditions: dict[str, list[str]]
    lifetime: str | None = None
    jwks_url: str = ""
    issuer_ca: str = ""
    end_with_token: bool = False
    token_uses: int = 1


class DeclaredOutbound(_Value):
    """A partner interface that is called with a client certificate of ours; keys and certificates are not declared.

    ``host_pattern`` is the host, or ``*.`` and a domain; ``server_ca`` is PEM, empty for those the system trusts.
    """

    name: str
    organization: str
    host_pattern: str
    title: str = ""
    server_ca: str = ""
    sni: str = ""
    minimum_tls: Literal["1.2", "1.3"] = "1.2"

    @property
    def reference(self) -> str:
        """``{organization}/{name}``."""
        return f"{self.organization}/{self.name}"


class DeclaredDirectory(_Value):
    """An LDAP server that CRLs are read from; its password is given by command."""

    name: str
    url: str
    start_tls: bool = False
    server_ca: PemText = ""
    user_name: str = ""


class DeclaredStatusAuthority(AuthoritySpec):
    """A CA whose certificates' status is given out."""


class DeclaredOcspSigner(NewSigner):
    """A key that signs answers of a status authority, or of several. ``certificate`` is that which another CA made of
    its request, with those above it behind (PEM)."""

    certificate: PemText = ""

    @property
    def reference(self) -> str:
        """What it is known by: ``authority/label (kind)``."""
        return self.reference_of(self.kind, self.authority, self.label or self.authority or "")

    @staticmethod
    def reference_of(kind: str, authority: str | None, label: str) -> str:
        """The reference of a signer that is stored."""
        return f"{label if authority in (None, label) else f'{authority}/{label}'} ({kind})"

    @model_validator(mode="after")
    def _is_certified_once(self) -> DeclaredOcspSigner:
        if self.certificate and (self.ca is not None or self.kind == "ca"):
            raise ValueError("the certificate of this signer is not imported")
        return self


class DeclaredToken(_Value):
    """A token by PKCS #11; its PIN is given by command."""

    name: str
    module: str
    label: str | None = None
    serial: str | None = None
    slot: int | None = None
    sessions: int = 8
    timeout: float = 10.0
    load_sharing: bool = False


class DeclaredTimestampIssuer(SignerOptions):
    """An endpoint at which timestamps are asked for: certified by ``ca``, with the certificate of ``share_with``, or by
    another CA; that, and how its keys are made, is said once. ``certificate`` is that of another CA, with those above
    it behind (PEM)."""

    name: str
    enabled: bool = True
    profile: TokenProfile
    ca: str | None = None
    share_with: str | None = None
    certificate: PemText = ""

    @model_validator(mode="after")
    def _is_certified_once(self) -> DeclaredTimestampIssuer:
        if self.certificate and (self.ca is not None or self.share_with is not None):
            raise ValueError("only the certificate of another CA is declared")
        return self


class DeclaredTenant(_Value):
    """A partition of enrolment; the tenant ``main`` is made with its first endpoint."""

    name: str
    description: str = ""


class DeclaredEndpoint(_Value):
    """A place at which certificates are asked for; CA, profile and tenant are said once. Its credentials are made by
    command."""

    protocol: Protocol
    name: str
    tenant: str = DEFAULT_TENANT
    ca: str
    profile: str
    enabled: bool = True
    approval: Approval = "automatic"
    networks: list[str] = Field(default=[], max_length=100)
    hourly_limit: int | None = Field(default=None, ge=1, le=10_000_000)
    options: dict[str, Any] = {}

    @property
    def address(self) -> str:
        """What it is known by: ``protocol/name``."""
        return f"{self.protocol}/{self.name}"


class Document(_Value):
    """Everything that can be declared. A section that is left out is left alone."""

    intaglio: Literal[1] = 1
    settings: dict[str, dict[str, Any]] | None = None
    profiles: list[dict[str, Any]] | None = None
    organizations: list[DeclaredOrganization] | None = None
    trust_domains: list[DeclaredDomain] | None = None
    identities: list[DeclaredIdentity] | None = None
    policies: list[DeclaredPolicy] | None = None
    ingresses: list[DeclaredIngress] | None = None
    pipelines: list[DeclaredPipeline] | None = None
    outbound: list[DeclaredOutbound] | None = None
    status_directories: list[DeclaredDirectory] | None = None
    status_authorities: list[DeclaredStatusAuthority] | None = None
    ocsp_signers: list[DeclaredOcspSigner] | None = None
    timestamp_issuers: list[DeclaredTimestampIssuer] | None = None
    tokens: list[DeclaredToken] | None = None
    enrollment_tenants: list[DeclaredTenant] | None = None
    enrollment_endpoints: list[DeclaredEndpoint] | None = None

    @model_validator(mode="after")
    def _each_once(self) -> Document:
        _require_unique((each.name for each in self.trust_domains or ()), "trust domain")
        _require_unique((each.reference for each in self.identities or ()), "identity")
        _require_unique((each.reference for each in self.policies or ()), "policy")
        _require_unique((each.reference for each in self.ingresses or ()), "ingress")
        _require_unique((each.name for each in self.pipelines or ()), "pipeline")
        _require_unique((each.reference for each in self.outbound or ()), "outbound credential")
        _require_unique((each.name for each in self.status_directories or ()), "status directory")
        _require_unique((each.name for each in self.status_authorities or ()), "status authority")
        _require_unique((each.reference for each in self.ocsp_signers or ()), "OCSP signer")
        _require_unique((each.name for each in self.timestamp_issuers or ()), "timestamp issuer")
        _require_unique((each.name for each in self.tokens or ()), "token")
        _require_unique((each.name for each in self.enrollment_tenants or ()), "enrolment tenant")
        _require_unique((each.address for each in self.enrollment_endpoints or ()), "enrolment endpoint")
        _require_unique((each.name for each in self.organizations or ()), "organization")
        _require_unique((str(each.get("id")) for each in self.profiles or ()), "profile")
        return self


def parse(text: str) -> Document:
    """Read a document from outside. Raises InvalidInput (``declaration-invalid``) naming every wrong field.

    Limits: 1 MiB, nesting 12, 50,000 nodes, no YAML aliases.
    """
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST:
        raise _invalid(f"A declaration has at most {LARGEST} octets.")
    try:
        _check_shape(text)
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader, the C one where PyYAML has it
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise _invalid(f"The declaration is not YAML{where}.") from None
    except (ValueError, OverflowError, RecursionError):
        raise _invalid("The declaration holds a value that cannot be read.") from None
    try:
        return Document.model_validate(content)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        fields = [(json_pointer(each["loc"], content), str(each["msg"])) for each in found[:_MOST_FIELDS]]
        raise InvalidInput(
            f"The declaration is wrong in {fields[0][0]}: {fields[0][1]}.",
            code="declaration-invalid",
            remedy="`intaglio export` writes a declaration to start from.",
            fields=fields,
        ) from None


def dump(document: Document) -> str:
    """The YAML of a document, without what equals the defaults."""
    content = document.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    # The kind decides how the rest is read, so it stands first.
    for organization in content.get("organizations", ()):
        organization["cas"] = [{"name": ca["name"], "kind": ca["kind"], **ca} for ca in organization.get("cas", ())]
    text: str = yaml.dump(
        {"intaglio": document.intaglio, **content},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=110,
    )
    return text


def _check_shape(text: str) -> None:
    """Refuse what would cost much to build, reading only the event stream, which does not recurse."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.AliasEvent):
            raise _invalid("A declaration may not use YAML aliases.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST or count > _MOST_NODES:
            raise _invalid("The declaration is nested too deeply or has too many values.")


def _require_unique(names: Any, what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f'the {what} "{name}" is declared twice')
        seen.add(name)


def _invalid(detail: str) -> InvalidInput:
    return InvalidInput(detail, code="declaration-invalid", target="declaration")
