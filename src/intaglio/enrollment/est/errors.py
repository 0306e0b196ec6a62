"""What an EST client is told when something is wrong. Sources: RFC 7030 sections 3.2.3 and 4.2.3."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response

from intaglio.core.errors import IntaglioError, Unauthenticated
from intaglio.enrollment.values import Endpoint


def response(error: IntaglioError, endpoint: Endpoint | None) -> Response:
    """A refusal as text for people; a client acts on the status.

    Where a password would help, 401 asks for one; a client that can only show a certificate is not asked for what it
    has not got.
    """
    status, headers = error.status, {"cache-control": "no-store"}
    if isinstance(error, Unauthenticated):
        if endpoint is not None and takes_password(endpoint):
            headers["www-authenticate"] = f'Basic realm="{endpoint.name}", charset="UTF-8"'
        else:
            status = 403
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    remedy = f" {error.remedy}" if error.remedy else ""
    return PlainTextResponse(f"{error.code}: {error.detail}{remedy}\n", status, headers)


def takes_password(endpoint: Endpoint) -> bool:
    """Whether somebody may show a password at the endpoint."""
    return bool(endpoint.options.authentication != "certificate")
