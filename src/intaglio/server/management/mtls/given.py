"""What the routes of mutual TLS identity start from."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from intaglio.mtls.context import Mtls


def mtls_of(request: Request) -> Mtls:
    """The mutual TLS services this application was made with."""
    return cast(Mtls, request.app.state.mtls)


GivenMtls = Annotated[Mtls, Depends(mtls_of)]
