"""``build``: build and sign a P-256 certificate through the profile engine, against the bare library."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from bench import reference
from bench.figure import Figure
from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core import clock
from intaglio.core.identifiers import new_serial_number
from intaglio.profiles import registry
from intaglio.profiles.engine import IssuanceInput, Issuer, compile_profile
from intaglio.x509.names import Name
from intaglio.x509.requests import parse_request

TARGET = 0.60


def measure() -> Figure:
    """Alternate reference and engine, so that both see the same machine; report the medians."""
    figure = Figure("build")
    engine_call = _engine_call()
    pairs = [
        (reference.rate(reference.bare_certificate(), seconds=1.5), reference.rate(engine_call, seconds=1.5))
        for _ in range(3)
    ]
    bare, engine = (sorted(column)[1] for column in zip(*pairs, strict=True))
    figure.add("engine / bare cryptography", engine / bare, "", ">=", TARGET, f"{engine:,.0f}/s of {bare:,.0f}/s")
    figure.measured = {"bare_per_second": bare, "engine_per_second": engine}
    return figure


def _engine_call() -> Callable[[], bytes]:
    key = algorithms.generate_private_key(KeyAlgorithm.ECDSA_P256)
    now = clock.now().replace(microsecond=0)
    issuer = Issuer(
        name="bench~issuing",
        subject_der=Name.parse("CN=Issuing,O=Bench").der,
        key_id=algorithms.key_identifier(algorithms.spki(key.public_key())),
        algorithm=KeyAlgorithm.ECDSA_P256,
        not_before=now - timedelta(days=1),
        not_after=now + timedelta(days=3650),
        path_budget=0,
        ocsp_enabled=True,
        ocsp_urls=("http://pki.example.test/ocsp/bench/issuing",),
        issuer_urls=("http://pki.example.test/aia/bench/issuing/ca.cer",),
        crl_urls=("http://pki.example.test/crl/bench/issuing/crl.crl",),
    )
    profile = compile_profile(registry.get("privatessl-tls-server"), issuer)
    request = parse_request(reference.certificate_request()[1])
    wanted = IssuanceInput(
        subject=request.subject,
        spki=request.spki,
        key_algorithm=request.key_algorithm,
        channel="gateway-api",
        san=request.san,
    )

    def build() -> bytes:
        prepared = profile.prepare(wanted, serial=new_serial_number(), now=now)
        return prepared.assemble(algorithms.sign(key, prepared.tbs))

    return build
