"""Bodies of the public calls: small JSON objects of texts, or a bare certificate request.

They are read here and not by a framework, because a body with a private key in it must be recognised before anything
else looks at it, and nothing of it may come back in an answer or a log.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from intaglio.audit.record import record
from intaglio.core.errors import InvalidInput, TooLarge
from intaglio.core.logging import get_logger
from intaglio.core.principal import Principal
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import errors, limits
from intaglio.mtls.enrolment.private_keys import MAX_PAYLOAD, holds_private_key
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.mtls.identities.values import Identity
from intaglio.mtls.observation.alerts import key_received
from intaglio.platform import live_settings

log = get_logger(__name__)

_LONGEST_TEXT = 128 * 1024
_JSON = "application/json"


async def screened(
    mtls: Mtls, principal: Principal, body: bytes, *, at: str, identity: Identity | None = None
) -> bytes:
    """The body, unless a private key is in it: that is an alert, and a record that says only where and from whom.

    ``identity`` is who or for whom it was sent, if that is known; the alert goes to his organization, else to all that
    have a trust domain.

    Raises TooLarge, InvalidInput (``private_key_received``), RateLimited.
    """
    if len(body) > MAX_PAYLOAD:
        raise TooLarge(f"The body is longer than {MAX_PAYLOAD} octets.", remedy="Send only the certificate request.")
    if not holds_private_key(body):
        return body
    async with mtls.database.read() as view:
        limit = (await live_settings.current(view, EnrolmentSettings)).requests_per_minute
    await limits.count_request(mtls.database, principal.source, limit, kind="private-key")  # each one costs a record
    log.error("a private key was sent; it was thrown away", source=principal.source, caller=principal.name, at=at)
    async with mtls.database.transaction() as tx:
        organization = None if identity is None else identity.domain.organization
        record(
            tx, principal, "enrolment.private-key-received", "request", at, outcome="refused", alert=True,
            organization=organization,
        )  # fmt: skip
        owner = None if identity is None else identity.domain.organization_id
        await key_received(tx, owner, "" if identity is None else identity.uri, at, principal.source)
    raise errors.private_key_received()


def read_texts(body: bytes, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, str]:
    """The members of a JSON object, all of them texts. Raises InvalidInput, which never quotes the body."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput(
            "The body is not valid JSON.", code="invalid-json", remedy=f"Send a JSON object with {_named(required)}."
        ) from None
    if not isinstance(found, dict):
        raise InvalidInput("The body is no JSON object.", remedy=f"Send an object with {_named(required)}.")
    wrong = [(name, "is missing") for name in required if name not in found]
    wrong += [
        (name, f"is not a text of at most {_LONGEST_TEXT} characters")
        for name in (*required, *optional)
        if name in found and not (isinstance(found[name], str) and len(found[name]) <= _LONGEST_TEXT)
    ]
    unknown = set(found) - {*required, *optional}
    if unknown:
        wrong.append(("", f"knows only {_named([*required, *optional])}"))
    if wrong:
        raise InvalidInput("The body is not as it should be.", remedy="Correct the fields in errors.", fields=wrong)
    texts = {name: found[name] for name in (*required, *optional) if name in found}
    if any(not _is_text(value) for value in texts.values()):
        raise InvalidInput("A text holds half of a character (a lone surrogate).", code="invalid-text")
    return texts


def read_csr(body: bytes, content_type: str) -> bytes | str:
    """The certificate request of a body: the member ``csr`` of a JSON object, or the body itself."""
    if content_type.partition(";")[0].strip().lower() == _JSON:
        return read_texts(body, ["csr"])["csr"]
    return body


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _named(names: Sequence[str]) -> str:
    return ", ".join(names)
