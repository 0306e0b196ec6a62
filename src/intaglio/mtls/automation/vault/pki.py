"""The PKI engine of Vault's clients: sign, issue, revoke, and what is public of a trust domain.

A mount is a trust domain, by its name; ``pki`` is that of the caller, or the only one there is. A role is the identity
of the caller. Of a request only the key counts; names that are asked for have to be the caller's own.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.requests import Request
from starlette.responses import Response

from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key
from intaglio.audit import record as audit
from intaglio.authority.crls.stored import latest_crl
from intaglio.authority.directory import CaView
from intaglio.core import clock
from intaglio.core.clock import rfc3339
from intaglio.core.effort import costly
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, Refused
from intaglio.core.identifiers import serial_hex
from intaglio.mtls.automation import logins
from intaglio.mtls.automation.logins import Login
from intaglio.mtls.automation.roles import names
from intaglio.mtls.automation.settings import AutomationSettings
from intaglio.mtls.automation.sign_api import lifetime_within
from intaglio.mtls.automation.signing import Signed, sign_within
from intaglio.mtls.automation.vault import answers, reading
from intaglio.mtls.automation.vault.auth import AuthRoutes
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import bodies
from intaglio.mtls.identities import domains, lifetimes, revoking
from intaglio.mtls.identities.authorities import issuing_ca_of
from intaglio.mtls.identities.values import Channel, TrustDomain
from intaglio.platform import live_settings
from intaglio.x509 import pem as pem_text
from intaglio.x509.certificates import pem, read_certificate

USUAL_MOUNT = "pki"
_FORMATS = ("pem", "pem_bundle", "der")
_KEYS: Mapping[tuple[str, str], KeyAlgorithm] = {
    ("ec", "0"): KeyAlgorithm.ECDSA_P256, ("ec", "256"): KeyAlgorithm.ECDSA_P256,
    ("ec", "384"): KeyAlgorithm.ECDSA_P384, ("ec", "521"): KeyAlgorithm.ECDSA_P521,
    ("rsa", "0"): KeyAlgorithm.RSA_2048, ("rsa", "2048"): KeyAlgorithm.RSA_2048,
    ("rsa", "3072"): KeyAlgorithm.RSA_3072, ("rsa", "4096"): KeyAlgorithm.RSA_4096,
}  # fmt: skip


class PkiRoutes:
    """``/v1/{mount}/...`` of one process."""

    def __init__(self, mtls: Mtls, auth: AuthRoutes) -> None:
        self._mtls, self._auth = mtls, auth

    async def sign(self, request: Request) -> Response:
        """Certify the key of a request."""
        login = await self._caller(request)
        screened = await bodies.screened(
            self._mtls, request.state.principal, await request.body(), at="vault sign", identity=login.identity
        )
        body = reading.parse(screened, reading.Sign)
        if not body.csr.strip():
            raise InvalidInput("there is no csr.", code="csr-missing", target="csr")
        signed, warnings = await self._issue(request, login, body, body.csr)
        return answers.data(_certificate(signed, body.format, None), warnings=warnings)

    async def issue(self, request: Request) -> Response:
        """Make a key and certify it. The key is in the answer and nowhere else."""
        login = await self._caller(request)
        async with self._mtls.database.read() as view:
            allowed = (await live_settings.current(view, AutomationSettings)).issue_with_key
        if not allowed:
            raise Forbidden(
                "Private keys are not made here.", code="issue-disabled", remedy="Make the key yourself and use sign."
            )
        body = await reading.read(request, reading.Issue)
        algorithm = _KEYS.get((body.key_type, body.key_bits))
        if algorithm is None or body.private_key_format not in ("", "der", "pkcs8"):
            raise InvalidInput(
                "This kind of key is not made here.", code="key-kind-unknown",
                remedy="Use key_type ec or rsa, and private_key_format der or pkcs8.", target="key_type",
            )  # fmt: skip
        key = await costly.run(request.state.principal, lambda: generate_private_key(algorithm))
        signed, warnings = await self._issue(request, login, body, _request_for(key))
        style = PrivateFormat.PKCS8 if body.private_key_format == "pkcs8" else PrivateFormat.TraditionalOpenSSL
        made = _Key(body.key_type, key, style)
        await self._note_key(login, signed)
        return answers.data(_certificate(signed, body.format, made), warnings=warnings)

    async def sign_verbatim(self, request: Request) -> Response:
        """Never: the requester does not get to say what a certificate says."""
        await self._caller(request)
        raise Forbidden(
            "Certificates say what the registry says, not what a request says.",
            code="sign-verbatim-refused",
            remedy="Use sign.",
        )

    async def revoke(self, request: Request) -> Response:
        """Revoke one of the caller's own certificates."""
        login = await self._caller(request)
        body = await reading.read(request, reading.Revocation)
        if bool(body.serial_number) == bool(body.certificate):
            raise InvalidInput("Give either serial_number or certificate.", code="serial-missing")
        serial = body.serial_number.replace("-", ":")
        if body.certificate:
            serial = serial_hex(read_certificate(body.certificate).serial)
        done = await revoking.revoke_serial(self._mtls, login.identity.principal(login.source), serial)
        revoked_at = done.revoked_at or clock.now()
        return answers.data(
            {
                "revocation_time": int(revoked_at.timestamp()),
                "revocation_time_rfc3339": rfc3339(revoked_at),
                "state": done.state,
            }
        )

    async def ca(self, request: Request) -> Response:
        """The issuing CA, DER."""
        return _octets((await self._issuing_ca(request)).certificate.der, "application/pkix-cert")

    async def ca_pem(self, request: Request) -> Response:
        """The issuing CA, PEM."""
        return _octets((await self._issuing_ca(request)).certificate.pem.encode(), "application/pem-certificate-chain")

    async def ca_chain(self, request: Request) -> Response:
        """The issuing CA and those above it, PEM."""
        return _octets(_pem_of((await self._issuing_ca(request)).chain).encode(), "application/pem-certificate-chain")

    async def cert(self, request: Request) -> Response:
        """CA, chain and CRL as text in JSON."""
        which = request.path_params["which"]
        if which == "ca":
            text = (await self._issuing_ca(request)).certificate.pem
        elif which == "ca_chain":
            text = _pem_of((await self._issuing_ca(request)).chain)
        elif which == "crl":
            text = pem_text.encode("X509 CRL", await self._newest_crl(request))
        else:
            raise NotFound("Of certificates only ca, ca_chain and crl are told here.", code="certificate-not-told")
        return answers.data({"certificate": text, "revocation_time": 0, "revocation_time_rfc3339": ""})

    async def crl(self, request: Request) -> Response:
        """The newest CRL of the issuing CA, DER."""
        return _octets(await self._newest_crl(request), "application/pkix-crl")

    async def crl_pem(self, request: Request) -> Response:
        """The same, PEM."""
        text = pem_text.encode("X509 CRL", await self._newest_crl(request))
        return _octets(text.encode(), "application/x-pem-file")

    async def _caller(self, request: Request) -> Login:
        """Whose token it is; mount and role of the path are his. Raises Forbidden."""
        login = await self._auth.required(request)
        mount, role = request.path_params["mount"], request.path_params.get("role")
        identity = login.identity
        if mount not in (USUAL_MOUNT, identity.domain.name) or (role is not None and not names(identity, role)):
            raise Forbidden(
                f'permission denied: this token is good for {identity.domain.name}, role "{identity.name}".',
                code="role-foreign",
                remedy="Use the role of the identity that logged in.",
            )
        return login

    async def _issue(
        self, request: Request, login: Login, body: reading.Names, csr: bytes | str
    ) -> tuple[Signed, list[str]]:
        if body.format not in _FORMATS:
            raise InvalidInput(f"format is one of {', '.join(_FORMATS)}.", code="format-unknown", target="format")
        lifetime, warnings = _lifetime(login, body)
        channel = Channel.PIPELINE if login.method == "jwt" else Channel.VAULT
        signed = await sign_within(
            self._mtls, login.identity, csr, channel, lifetime=lifetime, dns_names=_dns_names(login, body),
            source=login.source, user_agent=request.headers.get("user-agent", ""), renews=login.binding_id,
            ground=partial(logins.require_open, login=login),
        )  # fmt: skip
        return signed, [*warnings, *signed.issued.warnings]

    async def _note_key(self, login: Login, signed: Signed) -> None:
        """A private key is about to leave this house."""
        identity, serial = login.identity, serial_hex(signed.issued.serial)
        async with self._mtls.database.transaction() as tx:
            audit.record(
                tx, identity.principal(login.source), "private-key.hand-out", "identity", identity.uri,
                organization=identity.domain.organization, serial=serial,
            )  # fmt: skip

    async def _domain(self, request: Request) -> TrustDomain:
        mount = request.path_params["mount"]
        async with self._mtls.database.read() as view:
            known = [each for each in await domains.load_all(view) if each.state in ("active", "rotating")]
        found = known if mount == USUAL_MOUNT else [each for each in known if each.name == mount]
        if len(found) != 1:
            raise NotFound(
                f'no handler for route: "{mount[:80]}" is no mount.', code="mount-unknown",
                remedy="A mount is the name of a trust domain.",
            )  # fmt: skip
        return found[0]

    async def _issuing_ca(self, request: Request) -> CaView:
        domain = await self._domain(request)
        return issuing_ca_of(await self._mtls.authority.current(), domain)

    async def _newest_crl(self, request: Request) -> bytes:
        ca = await self._issuing_ca(request)
        async with self._mtls.database.read() as view:
            found = await latest_crl(view, ca, ca.generation)
        if found is None:
            raise NotFound("There is no CRL yet.", code="crl-unknown")
        return found.der


class _Key:
    """A key that was made for a caller."""

    def __init__(self, kind: str, key: Any, style: PrivateFormat) -> None:
        self.kind = kind
        self.pem = key.private_bytes(Encoding.PEM, style, NoEncryption()).decode()
        self.der = key.private_bytes(Encoding.DER, style, NoEncryption())


def _lifetime(login: Login, body: reading.Names) -> tuple[timedelta | None, list[str]]:
    """The life that is asked for. More than there may be is cut with a warning: clients ask for 90 days when their
    users say nothing."""
    if body.not_after:
        raise InvalidInput("A point in time is not taken.", code="not-after-unsupported", remedy="Use ttl.")
    wanted = answers.duration(body.ttl, target="ttl")
    domain, kind = login.identity.domain, login.identity.kind
    most = domain.ceilings[kind]
    usual = domain.lifetimes[kind]
    if login.longest is not None:
        most = min(most, login.longest)
        usual = min(usual, most)
    if login.not_beyond is not None:
        most = min(most, lifetime_within(None, most, login.not_beyond))
        usual = min(usual, most)
    if wanted is None:
        return usual, []
    if wanted > most:
        return most, [f"TTL of {lifetimes.text_of(wanted)} is more than {lifetimes.text_of(most)}, which was used."]
    return wanted, []


def _dns_names(login: Login, body: reading.Names) -> list[str]:
    """The DNS names to certify beside the registered ones. Raises Refused for what is not the caller's to say."""
    identity = login.identity
    wanted = reading.listed(body.alt_names)
    if body.common_name and not names(identity, body.common_name):
        wanted.append(body.common_name)
    foreign = [uri for uri in reading.listed(body.uri_sans) if uri != identity.uri]
    foreign += reading.listed(body.ip_sans) + reading.listed(body.other_sans)
    if foreign:
        raise Refused(
            f'"{foreign[0][:80]}" is not a name of this identity.',
            code="name-not-registered",
            remedy="Names come from the registry; leave uri_sans, ip_sans and other_sans out.",
        )
    return [name for name in wanted if name not in identity.dns_names]


def _certificate(signed: Signed, form: str, key: _Key | None) -> dict[str, Any]:
    """A certificate as Vault's clients read it."""
    issued = signed.issued
    above = list(dict.fromkeys((*issued.chain, *signed.anchors)))
    write = _base64 if form == "der" else _pem
    certificate = write(issued.certificate)
    if form == "pem_bundle":
        parts = [key.pem.rstrip("\n")] if key else []
        certificate = "\n".join([*parts, certificate, *map(write, _between(issued.chain))])
    found: dict[str, Any] = {
        "certificate": certificate,
        "issuing_ca": write(above[0]),
        "ca_chain": [write(each) for each in above],
        "serial_number": answers.serial_text(issued.serial),
        "expiration": int(issued.not_after.timestamp()),
    }
    if key is not None:
        text = _base64(key.der) if form == "der" else key.pem.rstrip("\n")
        found |= {"private_key": text, "private_key_type": key.kind}
    return found


def _request_for(key: Any) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def _between(chain: Iterable[bytes]) -> list[bytes]:
    """The CAs of a chain that its holder has to send along: all but the root, which relying parties have."""
    return [der for der in chain if not read_certificate(der).is_self_issued]


def _pem_of(chain: Iterable[bytes]) -> str:
    return "".join(map(pem, chain))


def _pem(der: bytes) -> str:
    return pem(der).rstrip("\n")


def _base64(der: bytes) -> str:
    return base64.b64encode(der).decode()


def _octets(body: bytes, media_type: str) -> Response:
    return Response(body, media_type=media_type, headers={"cache-control": "no-cache"})
