"""Secrets are said once, to whom they belong, and are afterwards nowhere to be found."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from tests.support.pki import PROFILE, Pki, admin, certificate_request, issued, ok
from tests.support.product import NewProduct, Product

_PLANTED = "correct-horse-battery-staple-4711"


async def test_no_secret_is_in_logs_audit_export_or_process_arguments(new_product: NewProduct) -> None:
    product = new_product(LOG_LEVEL="TRACE")
    product.run("init")
    pki = Pki.create(product.start(), "demo")
    secrets = {f"password of {name}.p12": password for name, password in pki.passwords.items()}
    secrets |= {f"key of {name}": line for name in pki.clients for line in _key_lines(pki.clients[name].read_bytes())}
    secrets["planted"] = _PLANTED
    secrets |= _master_key(product)
    async with pki.http() as gateway:
        protection = {"format": "PKCS12", "protection": {"type": "PasswordProtection", "password": _PLANTED}}
        variables = [{"type": "CN", "value": "www.example"}]
        for profile in ("multiuse-p12-server", PROFILE, "no-such-profile"):
            answer = await gateway.client.post(
                f"/{pki.issuing}/enrollments",
                json={"profileId": profile, "requiredFormat": protection, "subjectVariables": variables},
            )
            assert answer.is_success == (profile == "multiuse-p12-server"), answer.text
            assert _PLANTED not in answer.text
        issued(await gateway.enroll(certificate_request()))
        broken = f'{{"profileId": "x", "requiredFormat": {{"protection": {{"password": "{_PLANTED}"'
        await gateway.client.post(f"/{pki.issuing}/enrollments", content=broken, headers=_JSON)
    _use_logins(product, secrets)
    exported = product.run("export")
    audit = product.run("--json", "audit", "list", "--all")
    arguments = "\n".join(_process_arguments(product))
    database = _database_dump(pki)
    places = {
        "server log": product.log.read_text(errors="replace"),
        "database log": _text(product.data / "postgres" / "server.log"),
        "audit records": audit,
        "export": exported,
        "process arguments": arguments,
        "database": database,
    }
    assert "certificate.issue" in audit
    assert "issuer: root" in exported
    assert "intaglio" in arguments
    for place, content in places.items():
        for what, secret in secrets.items():
            assert secret not in content, f"{what} is in the {place}"
        assert "PRIVATE KEY-----" not in content, place


_JSON = {"content-type": "application/json"}


def _use_logins(product: Product, secrets: dict[str, str]) -> None:
    """Users, one-time secrets, tokens and failed logins."""
    with admin(product) as http:
        made = ok(http.post("/users", json={"name": "erin", "roles": []})).json()
        secrets["one-time secret"] = made["secret"]
        password = f"{_PLANTED}-login"
        assert http.post("/login", json={"name": "erin", "password": password}).status_code == 401
        session = ok(http.post("/login", json={"name": "erin", "password": made["secret"]})).json()["token"]
        secrets["session"] = session
        asking = {"authorization": f"Bearer {session}"}
        ok(http.post("/me/password", json={"new": password, "current": None}, headers=asking))
        token = ok(http.post("/tokens", json={"name": "robot", "user": "admin"})).json()["secret"]
        secrets["token"] = token
        http.get("/cas", headers={"authorization": f"Bearer {token}"})
        http.get("/cas", headers={"authorization": f"Bearer {token}x"})


def _key_lines(pem: bytes) -> Iterable[str]:
    """The octets of a private key, as they would be seen in PEM, in one line of base64, and in hexadecimal."""
    der = load_pem_private_key(pem, None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return [base64.b64encode(der).decode()]


def _master_key(product: Product) -> dict[str, str]:
    lines = (product.data / "master.key").read_text().split()
    return {f"master key {number}": line for number, line in enumerate(lines) if len(line) > 20}


def _process_arguments(product: Product) -> Iterable[str]:
    """Command lines of the server's processes and of the database's."""
    data = str(product.data)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            ours = data in line or data.encode() in (entry / "environ").read_bytes()
        except OSError:
            continue
        if ours and int(entry.name) != os.getpid():
            yield line


def _database_dump(pki: Pki) -> str:
    """Every row of every table as text, octets as base64 so that keys and passwords would be recognized."""
    parts: list[str] = []
    with pki.database() as database:
        tables = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    if isinstance(value, bytes):
                        parts += [base64.b64encode(value).decode(), value.decode("latin-1")]
                    else:
                        parts.append(str(value))
    return "\n".join(parts)


def _text(path: Path) -> str:
    return path.read_text(errors="replace")
