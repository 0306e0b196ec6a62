"""What a gateway and the server that decides for it say to each other, in JSON."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from intaglio.mtls.proxy.decisions import Asked, Caller, Mode, Verdict
from intaglio.transport.observing import CHAIN_LIMIT
from intaglio.transport.tls_stream import PeerCertificate

LONGEST_WAIT = 10.0


def _base64(text: str) -> str:
    b64decode(text, validate=True)  # whose error is a ValueError
    return text


#: DER octets in base64.
Der = Annotated[str, Field(max_length=140_000), AfterValidator(_base64)]
Text = Annotated[str, Field(max_length=300)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DecisionRequest(_Wire):
    """What a gateway saw. ``presented`` is the client's chain, leaf first, for whose key TLS proved possession;
    ``verify_error`` what the gateway's own verification found wrong. ``record`` makes it an access event."""

    source_ip: Text
    presented: list[Der] = Field(default=[], max_length=CHAIN_LIMIT)
    verify_error: Text = ""
    tls_version: Text = ""
    cipher: Text = ""
    method: Text = ""
    host: Text = ""
    path: Annotated[str, Field(max_length=8192)] = ""
    record: bool = True

    @classmethod
    def of(cls, caller: Caller, asked: Asked, *, record: bool) -> dict[str, object]:
        """The JSON of a request."""
        wanted = cls.model_construct(
            source_ip=caller.source,
            presented=_texts(caller.peer.chain),
            verify_error=caller.peer.error or "",
            tls_version=caller.tls_version,
            cipher=caller.cipher,
            method=asked.method,
            host=asked.host[:300],
            path=asked.path,
            record=record,
        )
        return wanted.model_dump(mode="json")

    @property
    def caller(self) -> Caller:
        peer = PeerCertificate(_octets(self.presented), self.verify_error or None)
        return Caller(self.source_ip, peer, self.tls_version, self.cipher)

    @property
    def asked(self) -> Asked:
        return Asked(self.method, self.path, self.host)


class DecisionAnswer(BaseModel):
    """What the gateway has to do. ``passes`` is to be obeyed; ``status`` is the HTTP status that tells a refusal."""

    allowed: bool
    passes: bool
    reason: str
    detail: str
    status: int
    identity: str
    chain: list[Der]
    attributes: list[tuple[str, str]]
    forward: list[str]

    @classmethod
    def of(cls, verdict: Verdict) -> DecisionAnswer:
        return cls.model_construct(
            allowed=verdict.allowed,
            passes=verdict.passes,
            reason=verdict.reason,
            detail=verdict.detail,
            status=verdict.status,
            identity=verdict.identity,
            chain=_texts(verdict.chain),
            attributes=list(verdict.attributes),
            forward=sorted(verdict.forward),
        )

    def verdict(self, *, again: bool) -> Verdict:
        return Verdict(
            self.allowed, self.passes, self.reason, self.detail, self.status, self.identity, _octets(self.chain),
            self.attributes, frozenset(self.forward), evidence="again" if again else None,
        )  # fmt: skip


class GatewaySettings(BaseModel):
    """What the TLS side of a gateway follows: ``trusted`` are trust anchors (DER in base64)."""

    ingress: str
    mode: Literal["off", "permissive", "enforce"]
    trusted: list[Der]

    @property
    def anchors(self) -> tuple[bytes, ...]:
        return _octets(self.trusted)

    @property
    def strictness(self) -> Mode:
        return Mode(self.mode)


class Changes(BaseModel):
    """Whether something ``changed`` that may end open connections, and the ``state`` it is in now."""

    state: str
    changed: bool


def _texts(values: Sequence[bytes]) -> list[str]:
    return [b64encode(each).decode() for each in values]


def _octets(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(b64decode(each) for each in texts)
