"""What Vault's clients expect to read: its envelope, its errors, its spelling of times and serial numbers.

Source: Vault HTTP API documentation (public), as its clients use it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from starlette.responses import JSONResponse, Response

from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError, InvalidInput
from intaglio.core.identifiers import new_id
from intaglio.mtls.automation.logins import Login

_DURATION = re.compile(r"(\d{1,9})(h|m|s)", re.ASCII)
_SECONDS = {"h": 3600, "m": 60, "s": 1}
_NO_STORE = {"cache-control": "no-store"}
#: Vault knows no 401, 409 or 422: its clients take 403 as "log in again" and 400 as "this request is wrong".
_STATUS = {401: 403, 409: 400, 422: 400, 501: 405, 504: 503}


def data(value: Mapping[str, Any], *, warnings: Sequence[str] = ()) -> Response:
    """An answer with data."""
    return JSONResponse(_envelope(data=dict(value), warnings=list(warnings) or None), headers=_NO_STORE)


def auth(login: Login, token: str, now: datetime) -> Response:
    """An answer with a login."""
    identity = login.identity
    return JSONResponse(
        _envelope(
            auth={
                "client_token": token,
                "accessor": login.accessor,
                "policies": ["default"],
                "token_policies": ["default"],
                "metadata": metadata(login),
                "lease_duration": seconds_left(login, now),
                "renewable": login.is_renewable,
                "entity_id": str(identity.id),
                "token_type": "service",
                "orphan": True,
                "mfa_requirement": None,
                "num_uses": 0,
            }
        ),
        headers=_NO_STORE,
    )


def lookup(login: Login, token: str, now: datetime) -> Response:
    """What a token says of itself."""
    return data(
        {
            "id": token,
            "accessor": login.accessor,
            "creation_time": int(login.created_at.timestamp()),
            "creation_ttl": login.seconds,
            "display_name": f"{login.method}-{login.identity.name}",
            "entity_id": str(login.identity.id),
            "expire_time": rfc3339(login.expires_at),
            "explicit_max_ttl": 0,
            "issue_time": rfc3339(login.created_at),
            "meta": metadata(login),
            "num_uses": 0,
            "orphan": True,
            "path": f"auth/{login.method}/login",
            "policies": ["default"],
            "renewable": login.is_renewable,
            "ttl": seconds_left(login, now),
            "type": "service",
        }
    )


def refusal(error: IntaglioError) -> Response:
    """An error in Vault's shape: sentences in ``errors``, the last of them with our code."""
    headers = dict(_NO_STORE)
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    said = [f"{target}: {message}" for target, message in error.fields]
    said.append(f"{error} ({error.code})")
    return JSONResponse({"errors": said}, status_code=_STATUS.get(error.status, error.status), headers=headers)




def metadata(login: Login) -> dict[str, str]:
    """What a login tells about its identity."""
    identity = login.identity
    return {"identity": identity.uri, "role": identity.name, "domain": identity.domain.name, "method": login.method}


def seconds_left(login: Login, now: datetime) -> int:
    """Whole seconds that a login still lives."""
    return max(0, int((login.expires_at - now).total_seconds()))


def duration(text: str | int | None, *, target: str) -> timedelta | None:
    """A span as Go writes it (``1h30m``, ``2160h0m0s``) or in seconds; None for an empty one. Raises InvalidInput."""
    if text is None or text == "" or text == 0 or text == "0":
        return None
    written = str(text)
    if written.isascii() and written.isdigit() and len(written) <= 10:
        return timedelta(seconds=int(written))
    parts = _DURATION.findall(written)
    if not parts or "".join(number + unit for number, unit in parts) != written or len(parts) > 3:
        raise InvalidInput(
            f'"{written[:40]}" is not a duration.', code="duration-invalid", remedy="Write 24h, 90m or 3600s.",
            target=target,
        )  # fmt: skip
    return timedelta(seconds=sum(int(number) * _SECONDS[unit] for number, unit in parts))


def serial_text(serial: bytes) -> str:
    """A serial number as Vault writes it: ``39:dd:2e``."""
    return serial.hex(":")


def _envelope(**members: Any) -> dict[str, Any]:
    return {
        "request_id": str(new_id()),
        "lease_id": "",
        "renewable": False,
        "lease_duration": 0,
        "data": None,
        "wrap_info": None,
        "warnings": None,
        "auth": None,
        **members,
    }
