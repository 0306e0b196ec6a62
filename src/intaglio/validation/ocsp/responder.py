"""Answering OCSP requests.

1. parse   2. find the issuer by the CertIDs; it must be the one of the URL, and one for all   3. its signer
4. status of every certificate   5. encode and sign. What goes wrong on the way becomes an OCSP error, never a status.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from intaglio.asn1 import der
from intaglio.authority.context import Authority
from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, InvalidInput
from intaglio.core.logging import get_logger
from intaglio.db.listen import Watch
from intaglio.validation.ocsp import responses
from intaglio.validation.ocsp.answers import Answer, AnswerCache
from intaglio.validation.ocsp.issuers import Issuer, IssuerIndex, Signers, Signing
from intaglio.validation.ocsp.requests import OcspRequest, parse_request
from intaglio.validation.ocsp.status import Key, Status, StatusSource

log = get_logger(__name__)

#: How long an answer about a certificate nobody issued may be believed.
_UNKNOWN_VALIDITY = timedelta(minutes=5)


_MALFORMED = Answer(responses.MALFORMED_REQUEST)
_UNAUTHORIZED = Answer(responses.UNAUTHORIZED)
_TRY_LATER = Answer(responses.TRY_LATER)
_INTERNAL_ERROR = Answer(responses.INTERNAL_ERROR)


class Responder:
    """The OCSP responder of one process."""

    def __init__(self, authority: Authority, watch: Watch) -> None:
        self._authority = authority
        self._watch = watch
        self._signers = Signers(authority)
        self.cache = AnswerCache()
        self.status = StatusSource(authority.database, watch, self._on_change)
        self._index: IssuerIndex | None = None

    async def close(self) -> None:
        await self.status.close()

    @property
    def current(self) -> bool:
        """Whether what is kept in memory may be used: nothing was changed that this process has not taken note of."""
        return self.status.current and self._index is not None and self._watch.epoch <= self._index.epoch

    async def catch_up(self) -> None:
        """Take note of what the watch heard, and of the configuration it speaks of. Raises Unavailable, TimedOut."""
        await self.status.catch_up()
        snapshot = await self._authority.snapshot()
        if snapshot.epoch < self._watch.epoch:
            snapshot = await self._authority.directory.reload(beyond=snapshot.epoch)
        if self._index is None or self._index.epoch < snapshot.epoch:
            self._index = IssuerIndex(snapshot)
            self._signers.forget()
            self.cache.clear()

    async def answer(self, data: bytes, path: str | None) -> Answer:
        """The answer to a request in DER that came to ``/ocsp/{organization}/{ca}`` (None: to the URL for all CAs)."""
        try:
            request = parse_request(data)
        except InvalidInput:
            return _MALFORMED
        try:
            return await self._answer(request, path)
        except IntaglioError as error:
            if error.status not in (503, 504, 409):
                log.error("an OCSP answer could not be made", reason=str(error))
                return _INTERNAL_ERROR
            return _TRY_LATER
        except Exception:
            log.exception("an OCSP answer could not be made")
            return _INTERNAL_ERROR

    async def _answer(self, request: OcspRequest, path: str | None) -> Answer:
        if not self.current:
            await self.catch_up()
        issuer = self._issuer(request, path)
        if issuer is None:
            return _UNAUTHORIZED
        signing = self._signers.ready(issuer, clock.now()) or await self._signers.get(issuer)
        statuses = [
            None if certificate.serial is None else await self.status.get((issuer.ca.id, certificate.serial))
            for certificate in request.certificates
        ]
        return await self._sign(request, issuer, signing, statuses)

    def _issuer(self, request: OcspRequest, path: str | None) -> Issuer | None:
        """The one issuer of all certificates asked about. An answer has one signature, and a signer one CA."""
        assert self._index is not None
        issuer = self._index.find(request.certificates[0].issuer)
        if issuer is None or (path is not None and path != issuer.path):
            return None
        for certificate in request.certificates[1:]:
            other = self._index.find(certificate.issuer)
            if other is None or other.key != issuer.key:
                return None
        return issuer

    async def _sign(
        self, request: OcspRequest, issuer: Issuer, signing: Signing, statuses: Sequence[Status | None]
    ) -> Answer:
        now = clock.now().replace(microsecond=0)
        encoded = [responses.UNKNOWN if s is None else s.under(issuer.generation) for s in statuses]
        known = all(status != responses.UNKNOWN for status in encoded)
        validity = issuer.validity if known else min(issuer.validity, _UNKNOWN_VALIDITY)
        next_update = min(now + validity, signing.record.not_after)
        this, after = der.generalized_time(now), der.generalized_time(next_update)
        data = responses.response_data(
            signing.responder_id,
            this,
            [
                responses.single_response(certificate.der, status, this, after)
                for certificate, status in zip(request.certificates, encoded, strict=True)
            ],
            request.nonce,
        )
        signature = await signing.signer.sign(data)
        body = responses.successful_response(data, signing.signature_identifier, signature, signing.certificates)
        cacheable = known and request.nonce is None and all(s is not None and self.status.covers(s) for s in statuses)
        if not cacheable:
            return Answer(body, now, next_update)
        about = tuple((issuer.ca.id, c.serial) for c in request.certificates if c.serial is not None)
        # Given out for half of its validity, so that whoever gets it can rely on the other half.
        return Answer(body, now, next_update, about, True, monotonic() + (next_update - now).total_seconds() / 2)

    def _on_change(self, keys: Sequence[Key] | None) -> None:
        if keys is None or any(self._signers.uses(ca_id, serial) for ca_id, serial in keys):
            self._signers.forget()
            self.cache.clear()
        else:
            self.cache.drop(keys)
