"""An answer without its nonce and signature: what is said about which certificates, and by whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from intaglio.asn1 import der
from intaglio.validation.ocsp import responses
from intaglio.validation.ocsp.signers import Signing

_NO_TIME, _ONE_SECOND, _LONG_AGO = timedelta(0), timedelta(seconds=1), datetime(1970, 1, 1, tzinfo=UTC)


class Single(NamedTuple):
    """What is said about one certificate: ``front`` is its CertID and CertStatus.

    ``this_update`` None means the moment of the answer. nextUpdate is ``next_update``, or ``validity`` after
    thisUpdate, or there is none; with ``clamped`` it never lies behind the end of the signer's certificate.
    """

    front: bytes
    this_update: datetime | None = None
    next_update: datetime | None = None
    validity: timedelta | None = None
    clamped: bool = False
    extensions: bytes = b""

    def encoded(self, now: datetime, signer_ends: datetime) -> tuple[bytes, datetime | None]:
        """SingleResponse as of ``now``, and its nextUpdate."""
        since = now if self.this_update is None else self.this_update
        until = self.next_update if self.validity is None else since + self.validity
        if until is not None and self.clamped:
            until = min(until, signer_ends)
        after = b"" if until is None else der.generalized_time(until)
        return responses.single_response(self.front, der.generalized_time(since), after, self.extensions), until


class Outline:
    """An answer that can be given to many nonces, as long as what it says is true.

    All nonces put into one outline have the same length, so what is before the nonce only changes with the second.
    """

    __slots__ = ("_at", "_extended_revoked", "_front", "_next_update", "_singles", "signing")

    def __init__(self, signing: Signing, singles: tuple[Single, ...], *, extended_revoked: bool = False) -> None:
        self.signing = signing
        self._singles = singles
        self._extended_revoked = extended_revoked
        self._at = _LONG_AGO
        self._next_update: datetime | None = None
        self._front = b""

    def data(self, now: datetime, nonce: bytes) -> tuple[bytes, datetime | None]:
        """ResponseData as of ``now`` with an extension value as nonce (empty: none), and its earliest nextUpdate; None
        when one of the certificates has none."""
        if not _NO_TIME <= now - self._at < _ONE_SECOND:
            self._at = now.replace(microsecond=0)
            made = [single.encoded(self._at, self.signing.not_after) for single in self._singles]
            ends = [until for _, until in made if until is not None]
            self._next_update = min(ends) if len(ends) == len(made) else None
            whole = responses.response_data(
                self.signing.responder_id,
                der.generalized_time(self._at),
                [single for single, _ in made],
                nonce,
                extended_revoked=self._extended_revoked,
            )
            self._front = whole[: len(whole) - len(nonce)]
        return self._front + nonce, self._next_update

    def body(self, data: bytes, signature: bytes) -> bytes:
        """The OCSPResponse around signed ResponseData."""
        signing = self.signing
        return responses.successful_response(data, signing.signature_identifier, signature, signing.certificates)
