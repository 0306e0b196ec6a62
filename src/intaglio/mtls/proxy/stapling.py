"""The OCSP answer about the gateway's own certificate, fetched ahead and sent in the handshake (RFC 6066 section 8)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from intaglio.core import clock
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.mtls.toolkit import status
from intaglio.x509.certificates import read_certificate

log = get_logger(__name__)

_PATIENCE = 10.0  # seconds for a responder
_LARGEST = 64 * 1024  # octets of an answer
_AGAIN = timedelta(minutes=1)
_SHORTEST, _LONGEST = timedelta(seconds=10), timedelta(hours=1)
_SKEW = timedelta(minutes=5)  # between our clock and the responder's
_WITHOUT_END = timedelta(hours=1)  # how long an answer counts that does not say it


class _NotGood(ValueError):
    """The issuer does not say that the certificate is good."""


@dataclass(frozen=True)
class _Asked:
    """Whom to ask about which certificate."""

    url: str
    certificate: x509.Certificate
    issuer: x509.Certificate


class Stapling:
    """Keeps a current answer "good" for one certificate chain, or none.

    A chain can be stapled for when it holds the issuer too, and the certificate names an OCSP responder. Answers are
    verified before they are sent; what is not good, forged or out of date is not sent. Once the issuer says anything
    else, an earlier "good" is not sent any more either; while the responder is silent or raves, it is.
    """

    def __init__(self) -> None:
        self._chain = b""
        self._asked: _Asked | None = None
        self._answer = b""
        self._ends = self._renew = datetime.min.replace(tzinfo=clock.now().tzinfo)
        self._changed = asyncio.Event()

    def use(self, chain: bytes) -> None:
        """Answer for this chain (PEM, leaf first) from now on."""
        if chain != self._chain:
            self._chain, self._asked, self._answer = chain, _asked(chain), b""
            self._changed.set()

    def of(self, chain: bytes) -> Callable[[], bytes]:
        """Gives the answer about this chain, and none once there is another: a handshake may be under way with it."""
        return lambda: self.current() if chain == self._chain else b""

    def current(self) -> bytes:
        """The answer (DER), empty when there is none that counts."""
        return self._answer if clock.now() < self._ends else b""

    async def run(self) -> None:
        """Fetch answers in time, until cancelled."""
        while True:
            self._changed.clear()
            wait: float | None = None
            if self._asked is not None:
                wait = (await self._refresh(self._asked)).total_seconds()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def _refresh(self, asked: _Asked) -> timedelta:
        """Fetch once; returns how long to wait until the next time."""
        try:
            answer = await _fetch(asked)
            ends = _good_until(answer, asked)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError, IntaglioError) as error:
            log.warning("no OCSP answer about the gateway's certificate", responder=asked.url, reason=str(error))
            if isinstance(error, _NotGood) and asked is self._asked:
                self._answer = b""
            return _AGAIN
        if asked is self._asked:  # not another certificate meanwhile
            self._answer, self._ends = answer, ends
        return min(max((ends - clock.now()) / 2, _SHORTEST), _LONGEST)


def _asked(chain: bytes) -> _Asked | None:
    try:
        leaf, *others = x509.load_pem_x509_certificates(chain)
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None
    issuer = next((each for each in others if each.subject == leaf.issuer), None)
    urls = [
        each.access_location.value
        for each in access
        if each.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(each.access_location, x509.UniformResourceIdentifier)
        and urlsplit(each.access_location.value).scheme == "http"
    ]
    return _Asked(urls[0], leaf, issuer) if issuer is not None and urls else None


async def _fetch(asked: _Asked) -> bytes:
    # SHA-1 only names the issuer here; it is what every responder understands (RFC 5019 section 2.1.1).
    request = ocsp.OCSPRequestBuilder().add_certificate(asked.certificate, asked.issuer, SHA1()).build()  # noqa: S303
    headers = {"content-type": "application/ocsp-request"}
    async with (
        asyncio.timeout(_PATIENCE),
        httpx.AsyncClient(timeout=_PATIENCE, trust_env=False, follow_redirects=False) as http,
        http.stream("POST", asked.url, content=request.public_bytes(Encoding.DER), headers=headers) as answer,
    ):
        if answer.status_code != 200:
            raise ValueError(f"the responder answers {answer.status_code}")
        body = bytearray()
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > _LARGEST:
                raise ValueError("the answer is too long")
    return bytes(body)


def _good_until(answer: bytes, asked: _Asked) -> datetime:
    """When a good answer ends. Raises _NotGood when the issuer says something else, ValueError or InvalidInput when it
    says nothing."""
    now = clock.now()
    leaf, issuer = (read_certificate(each.public_bytes(Encoding.DER)) for each in (asked.certificate, asked.issuer))
    found = status.read([], [answer]).of(leaf, issuer, now)
    if found == status.read([], []).of(leaf, issuer, now):
        raise ValueError("the answer is not one of the issuer")
    if not found.known or found.revoked:
        raise _NotGood(f"the certificate {found.why}")
    response = ocsp.load_der_ocsp_response(answer)
    if response.this_update_utc > now + _SKEW:
        raise ValueError("the answer is dated into the future")
    signers = (each.not_valid_after_utc for each in response.certificates)  # with its signer, an answer ends too
    ends = min([response.next_update_utc or now + _WITHOUT_END, *signers])
    if ends <= now:
        raise ValueError("the answer is out of date")
    return ends
