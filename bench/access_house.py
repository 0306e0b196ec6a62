"""A trust domain with services, an ingress with a policy, and the certificates its callers show."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bench.installation import Installation
from intaglio.core.principal import operator
from intaglio.core.settings import Settings
from intaglio.db.embedded import EmbeddedPostgres
from intaglio.mtls.identities.issuing import issue_identity
from intaglio.mtls.identities.registry import NewIdentity, add_identity
from intaglio.mtls.identities.values import Channel
from intaglio.server.product import compose
from intaglio.server.services import Services

DOMAIN = "prod.bench.test"
INGRESS = "bench~web"
TOKEN = "ingress.token"
_OPERATOR = operator("bench")
_POLICY = """\
allow /pay/* if kind == service and environment == "prod" and team == "finance"
allow GET /reports/* if "auditor" in roles or team in ["finance", "audit"]
deny /admin/* if not source_ip in "10.0.0.0/8"
"""


@contextlib.contextmanager
def house() -> Iterator[Installation]:
    """A running product with a trust domain and an ingress that enforces a policy; its token is in ``TOKEN``."""
    with tempfile.TemporaryDirectory(prefix="intaglio-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        product = Installation(folder, WORKERS="2", LOG_LEVEL="WARN")
        product.run("init")
        try:
            product.start()
            product.run("org", "create", "bench")
            product.run("mtls", "domain", "create", DOMAIN, "--environment", "prod", "--org", "bench", "--new-ca")
            (product.work / "policy.txt").write_text(_POLICY)
            product.run("mtls", "policy", "apply", "pay", "--org", "bench", "--file", "policy.txt", "--activate")
            common = ("--org", "bench", "--domain", DOMAIN, "--mode", "enforce", "--policy", "pay")
            door = ("--forward", "identity", "--allow", "127.0.0.0/8", "--out", TOKEN)
            product.run("mtls", "ingress", "add", "web", *common, *door)
            yield product
        finally:
            product.stop()


@contextlib.asynccontextmanager
async def services(product: Installation) -> AsyncIterator[Services]:
    """The services of a process of the product, in this one."""
    settings = Settings(data_dir=product.data, hostname="localhost")
    made = Services(settings, EmbeddedPostgres(product.data).url, make_authority=compose(settings).make_authority)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def issued(made: Services, folder: Path, count: int) -> list[bytes]:
    """Certificates (DER) of that many services of finance; the first is ``client.crt`` and ``client.key``, too."""
    found = []
    for number in range(count):
        identity = await add_identity(
            made.mtls, _OPERATOR, NewIdentity(DOMAIN, "service", f"svc-{number}", team="finance", service="pay")
        )
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"svc-{number}")])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
        certificate = await issue_identity(
            made.mtls, _OPERATOR, identity, request.public_bytes(Encoding.PEM), channel=Channel.DRILL
        )
        if number == 0:
            leaf = x509.load_der_x509_certificate(certificate.certificate)
            (folder / "client.crt").write_bytes(leaf.public_bytes(Encoding.PEM))
            plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / "client.key").write_bytes(plain)
            anchors = b"".join(
                x509.load_der_x509_certificate(each).public_bytes(Encoding.PEM) for each in certificate.chain
            )
            (folder / "clients-ca.pem").write_bytes(anchors)
        found.append(certificate.certificate)
    return found
