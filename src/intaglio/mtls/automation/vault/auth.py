"""Logging in as Vault's clients do: by certificate, secret id or identity token; and what a token can do to itself."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from intaglio.core import clock
from intaglio.core.errors import Forbidden
from intaglio.core.identifiers import new_id
from intaglio.mtls.automation import bootstrap, logins, pipelines, proving, signing
from intaglio.mtls.automation.issuer_keys import IssuerKeys
from intaglio.mtls.automation.logins import Ground, Login, OpenedLogin
from intaglio.mtls.automation.roles import names
from intaglio.mtls.automation.vault import answers, reading
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities.values import Identity


class AuthRoutes:
    """``/v1/auth/...`` of one process; ``keys`` are those of token issuers."""

    def __init__(self, mtls: Mtls, keys: IssuerKeys) -> None:
        self._mtls, self._keys = mtls, keys

    async def by_certificate(self, request: Request) -> Response:
        """A login for whoever holds the client certificate of the connection."""
        body = await reading.read(request, reading.CertLogin)
        async with proving.failures_counted(self._mtls, request):
            identity, binding = await proving.holder(self._mtls, request)
            if body.name and not names(identity, body.name):
                raise Forbidden(
                    f'The certificate is not that of "{body.name[:80]}".',
                    code="role-foreign",
                    remedy="Leave the name out, or present its certificate.",
                )
        ground = Ground(binding_id=binding.id, ends_at=binding.not_after)
        return self._told(await self._open(request, identity, "cert", ground))

    async def by_secret(self, request: Request) -> Response:
        """A login for an identity and its secret: a bootstrap token of purpose ``approle``."""
        body = await reading.read(request, reading.AppRoleLogin)
        async with proving.failures_counted(self._mtls, request):
            source = proving.source_of(request)
            redeemed = await bootstrap.redeem(self._mtls, body.secret_id, "approle", source, role=body.role_id)
        proving.proved(request, redeemed.identity)
        ground = Ground(bootstrap_id=redeemed.token_id)
        return self._told(await self._open(request, redeemed.identity, "approle", ground))

    async def by_identity_token(self, request: Request) -> Response:
        """A login for the job or pod that has an identity token; the role is the pipeline."""
        body = await reading.read(request, reading.JwtLogin)
        async with proving.failures_counted(self._mtls, request):
            job = await pipelines.job_of(self._mtls, self._keys, body.role, body.jwt, used_for=new_id().bytes)
        proving.proved(request, job.identity)
        ground = Ground(
            pipeline_id=job.pipeline.id, pipeline_version=job.pipeline.version, longest=job.longest,
            not_beyond=job.not_beyond,
        )  # fmt: skip
        return self._told(await self._open(request, job.identity, "jwt", ground))

    async def lookup_self(self, request: Request) -> Response:
        """What the token is."""
        login, token = await self.required(request), reading.token_of(request)
        return answers.lookup(login, token, clock.now())

    async def renew_self(self, request: Request) -> Response:
        """Let the token live on."""
        login = await self.required(request)
        body = await reading.read(request, reading.Renewal)
        wanted = answers.duration(body.increment, target="increment")
        renewed = await logins.renew_login(self._mtls, login, wanted)
        return answers.auth(renewed, reading.token_of(request), clock.now())

    async def revoke_self(self, request: Request) -> Response:
        """End the token."""
        await logins.revoke_login(self._mtls, await self.required(request))
        return Response(status_code=204)

    async def required(self, request: Request) -> Login:
        """Whose token a request brings. Raises Forbidden."""
        async with proving.failures_counted(self._mtls, request):
            login = await logins.whose(self._mtls, reading.token_of(request))
        proving.proved(request, login.identity)
        return login

    async def _open(self, request: Request, identity: Identity, method: logins.Method, ground: Ground) -> OpenedLogin:
        await signing.count_use(self._mtls, identity, "login")
        return await logins.open_login(self._mtls, identity, method, ground, proving.source_of(request))

    def _told(self, opened: OpenedLogin) -> Response:
        return answers.auth(opened.login, opened.token, clock.now())
