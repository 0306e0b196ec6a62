"""dns-01, CAA and addresses, with the zones of a real name server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pydantic import ValidationError
from tests.enrollment.acme.validation.test_http01 import KEY_AUTHORIZATION, LOCAL, answering, ok
from tests.support.bind import Bind
from tests.support.programs import run

from intaglio.core.outgoing import PUBLIC_ONLY
from intaglio.enrollment.acme.validation import Target, ValidationFailed, ValidationOptions, Validator

_ACCOUNT = "https://acme.example/acct/1"
_TARGET = Target("dns", "www.example.test", False, "token", KEY_AUTHORIZATION, _ACCOUNT, "dns-01")
_EXPECTED = base64.urlsafe_b64encode(_TARGET.digest).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    with TemporaryDirectory(prefix="intaglio-bind-test-") as folder:
        made = Bind(
            Path(folder) / "bind",
            {
                "example.test": f"""www IN A 127.0.0.1
_acme-challenge.www IN TXT "an older one"
_acme-challenge.www IN TXT "{_EXPECTED}"
_acme-challenge.delegated IN CNAME delegated.challenges.test.
_acme-challenge.wrong IN TXT "something else"
inside IN A 127.0.0.1
inside IN A 10.1.2.3
only-inside IN A 10.1.2.3
*.many IN TXT "{_EXPECTED}"
""",
                "challenges.test": f'delegated IN TXT "{_EXPECTED}"\n',
                "caa.test": f'@ IN CAA 0 issue "ca.example; validationmethods=dns-01"\n'
                f'_acme-challenge.www IN TXT "{_EXPECTED}"\n_acme-challenge.other IN TXT "{_EXPECTED}"\n'
                'other IN CAA 0 issue ";"\n',
            },
        )
        made.start()
        yield made
        made.stop()


def _validator(bind: Bind, **options: object) -> Validator:
    made = {"nameservers": (bind.address,), "dns_timeout": 3, "http_timeout": 2} | options
    return Validator(ValidationOptions.model_validate(made), LOCAL)


async def _failing(validator: Validator, target: Target) -> ValidationFailed:
    with pytest.raises(ValidationFailed) as caught:
        await validator.validate(target)
    return caught.value


@pytest.mark.parametrize("value", ["www.example.test", "delegated.example.test"])
async def test_one_right_record_is_enough_also_behind_an_alias(bind: Bind, value: str) -> None:
    await _validator(bind).validate(replace(_TARGET, value=value))


async def test_wildcards_are_proven_by_the_name_below_them(bind: Bind) -> None:
    await _validator(bind).validate(replace(_TARGET, wildcard=True))


async def test_no_record_and_another_record_are_unauthorized(bind: Bind) -> None:
    error = await _failing(_validator(bind), replace(_TARGET, value="nobody.example.test"))
    assert error.problem == "unauthorized"
    assert error.detail == "_acme-challenge.nobody.example.test has no TXT record."
    assert _EXPECTED in error.remedy
    error = await _failing(_validator(bind), replace(_TARGET, value="wrong.example.test"))
    assert "something else" in error.detail


async def test_no_server_is_a_dns_problem() -> None:
    silent = Validator(ValidationOptions(nameservers=("127.0.0.1:9",), dns_timeout=0.5), LOCAL)
    assert (await _failing(silent, _TARGET)).problem == "dns"


async def test_addresses_are_not_proven_by_dns(bind: Bind) -> None:
    error = await _failing(_validator(bind), replace(_TARGET, kind="ip", value="127.0.0.1"))
    assert error.problem == "malformed"


async def test_caa_is_looked_at_after_the_challenge(bind: Bind) -> None:
    permitting = _validator(bind, caa_identities=("ca.example",))
    await permitting.validate(replace(_TARGET, value="www.caa.test"))
    somebody_else = _validator(bind, caa_identities=("pki.example",))
    for validator, value in ((permitting, "other.caa.test"), (somebody_else, "www.caa.test")):
        assert (await _failing(validator, replace(_TARGET, value=value))).problem == "caa"
    await _validator(bind).validate(replace(_TARGET, value="other.caa.test"))


async def test_hosts_are_found_by_the_servers_of_the_endpoint(bind: Bind) -> None:
    async with answering(lambda head, number: ok()) as (port, heads):
        validator = _validator(bind, http_port=port)
        for name in ("www.example.test", "inside.example.test"):
            await validator.validate(replace(_TARGET, method="http-01", value=name))
        assert f"host: inside.example.test:{port}".encode() in heads[1].lower()
        error = await _failing(validator, replace(_TARGET, method="http-01", value="only-inside.example.test"))
        assert "not at a public address" in error.detail
        error = await _failing(validator, replace(_TARGET, method="http-01", value="nobody.example.test"))
        assert error.problem == "dns"
        closed = Validator(ValidationOptions(nameservers=(bind.address,), http_port=port), PUBLIC_ONLY)
        assert (await _failing(closed, replace(_TARGET, method="http-01"))).problem == "connection"
        assert len(heads) == 2


async def test_a_method_that_does_not_exist_is_malformed(bind: Bind) -> None:
    assert (await _failing(_validator(bind), replace(_TARGET, method="tls-sni-01"))).problem == "malformed"


@contextlib.asynccontextmanager
async def _perspective(folder: Path, monkeypatch: pytest.MonkeyPatch, said: bytes) -> AsyncIterator[str]:
    """A service over HTTPS that says the same to everybody; its address."""
    certificate, key = _server_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        assert body["identifier"] == {"type": "dns", "value": "www.example.test"}
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/validate"


def _server_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "server.pem", folder / "server.key"
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
        "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "30",
    )  # fmt: skip
    return certificate, key


async def test_other_places_may_object_but_not_agree_for_us(
    bind: Bind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _perspective(tmp_path, monkeypatch, b'{"valid": true}') as url:
        await _validator(bind, perspectives=(url,)).validate(_TARGET)
        error = await _failing(_validator(bind, perspectives=(url,)), replace(_TARGET, value="wrong.example.test"))
        assert error.problem == "unauthorized"
        nobody = "https://localhost:9/"
        error = await _failing(_validator(bind, perspectives=(url, nobody)), _TARGET)
        assert "1 of 2" in error.detail
        await _validator(bind, perspectives=(url, nobody), perspectives_needed=1).validate(_TARGET)


@pytest.mark.parametrize(
    "said",
    [b'{"valid": false, "detail": "seen elsewhere"}', b'{"valid": "true"}', b"{}", b"[]", b"true", b"", b"x" * 5000,
     b"[" * 4000],
)  # fmt: skip
async def test_whatever_is_no_agreement_is_an_objection(
    bind: Bind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    async with _perspective(tmp_path, monkeypatch, said) as url:
        error = await _failing(_validator(bind, perspectives=(url,)), _TARGET)
    assert error.problem == "unauthorized"


async def test_a_perspective_that_is_not_trusted_does_not_count(
    bind: Bind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _perspective(tmp_path, monkeypatch, b'{"valid": true}') as url:
        monkeypatch.delenv("SSL_CERT_FILE")
        assert "cannot be reached" in (await _failing(_validator(bind, perspectives=(url,)), _TARGET)).detail


@pytest.mark.parametrize("url", ["http://localhost/", "https://", "ftp://localhost/"])
def test_perspectives_are_asked_over_https_only(url: str) -> None:
    with pytest.raises(ValidationError):
        ValidationOptions.model_validate({"perspectives": (url,)})
