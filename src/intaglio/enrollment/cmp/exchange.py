"""One message and what is known about it while it is answered."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from intaglio.asn1.cmp import Body, InfoTypeAndValue, PkiMessage
from intaglio.authority.certificates import StoredCertificate
from intaglio.authority.directory import CaView
from intaglio.core.errors import IntaglioError
from intaglio.enrollment.cmp.context import Cmp
from intaglio.enrollment.cmp.macs import Mac
from intaglio.enrollment.cmp.options import CmpOptions
from intaglio.enrollment.credentials import SharedSecret
from intaglio.enrollment.values import Applicant, Endpoint
from intaglio.x509.certificates import CertificateInfo

IMPLICIT_CONFIRM: Final = "1.3.6.1.5.5.7.4.13"
CONFIRM_WAIT_TIME: Final = "1.3.6.1.5.5.7.4.14"
CERTIFICATE_PROFILE: Final = "1.3.6.1.5.5.7.4.21"
NONCE_OCTETS: Final = 16


@dataclass(frozen=True)
class Sender:
    """Who protected a message, and how.

    With a MAC: ``secret`` and ``mac``. With a signature: ``certificate``, and what our CA has recorded of it
    (``stored``) when it is one of its own. ``registration_authority``: he may act for others. ``may_enrol``: his
    certificate is one by which certificates are given here. ``identity`` is the same for all messages that the same
    party protects.
    """

    applicant: Applicant
    identity: bytes = field(repr=False)
    secret: SharedSecret | None = field(default=None, repr=False)
    mac: Mac | None = field(default=None, repr=False)
    certificate: CertificateInfo | None = None
    stored: StoredCertificate | None = None
    registration_authority: bool = False
    may_enrol: bool = True

    @property
    def is_known(self) -> bool:
        """Whether anything protected the message."""
        return self.secret is not None or self.certificate is not None


@dataclass(frozen=True)
class Exchange:
    """A message at an endpoint; ``nonce`` is what our answer will say. ``vouching`` is the registration authority that
    passed the message on in one of its own."""

    cmp: Cmp
    endpoint: Endpoint
    ca: CaView
    message: PkiMessage
    sender: Sender
    now: datetime
    vouching: Sender | None = None
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(NONCE_OCTETS))
    progress: Progress = field(default_factory=lambda: Progress())

    @property
    def options(self) -> CmpOptions:
        options: CmpOptions = self.endpoint.options
        return options

    @property
    def transaction_id(self) -> bytes:
        assert self.message.header.transaction_id is not None, "the header was checked"
        return self.message.header.transaction_id

    @property
    def acts_for_others(self) -> bool:
        """Whether a registration authority protects the message.

        What it passes on with the protection of somebody else has the rights of that one: whoever forwards a message
        has not read it. Source: RFC 9483 section 5.2.2.
        """
        return self.sender.registration_authority

    @property
    def wants_implicit_confirm(self) -> bool:
        return self.options.implicit_confirm and self.message.header.info(IMPLICIT_CONFIRM) is not None


@dataclass
class Progress:
    """How far a message got: ``begun`` once its transaction id is taken, so that it cannot be decided again."""

    begun: bool = False


@dataclass(frozen=True)
class Answer:
    """What is sent back: body, items for the header, certificates beside it.

    ``outcome`` is for the metrics, ``refusal`` what is wrong. ``finished`` is a whole message, answered already.
    """

    body: Body
    content: bytes = field(repr=False)
    information: Sequence[InfoTypeAndValue] = ()
    certificates: Sequence[bytes] = field(default=(), repr=False)
    outcome: str = "answered"
    refusal: IntaglioError | None = None
    finished: bytes | None = field(default=None, repr=False)
