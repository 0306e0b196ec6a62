"""``crl-import``: another CA's CRL with a million entries, and a list of ten million serial numbers, taken in."""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bench import process
from bench.figure import Figure
from bench.installation import Installation, installation
from intaglio.asn1 import algorithms
from intaglio.core import clock
from intaglio.x509 import crls
from intaglio.x509.certificates import read_certificate

ENTRIES, LISTED = 1_000_000, 10_000_000
SECONDS, MEMORY_MIB, LIST_SECONDS = 20, 500, 600
_PATIENCE = 1_200


def measure() -> Figure:
    """The source is pulled over HTTP; the peak is that of the jobs process while it reads."""
    figure = Figure("crl-import")
    with installation() as product, _served(product.work) as base:
        product.run("settings", "set", 'outgoing.networks=["127.0.0.0/8"]')
        ca = _Ca()
        (product.work / "ca.pem").write_text(ca.pem)
        (product.work / "ca.crl").write_bytes(ca.crl(1, ENTRIES))
        jobs = product.runtime.processes["jobs"]
        process.forget_peak(jobs)
        took = [_read(product, "big", "--crl", f"{base}/ca.crl")]
        (product.work / "ca.crl").write_bytes(ca.crl(2, ENTRIES))
        took.append(_pull(product, "big"))
        peak = process.peak(jobs)
        _write_list(product.work / "serials.txt", LISTED)
        other = _Ca("Other")
        (product.work / "ca.pem").write_text(other.pem)
        (product.work / "other.crl").write_bytes(other.crl(1, 1_000))
        process.forget_peak(jobs)
        where = ("--crl", f"{base}/other.crl", "--serial-list", f"{base}/serials.txt")
        listing = _read(product, "listed", *where)
        list_peak = process.peak(jobs)
    figure.add("first CRL", took[0], "s", "<", SECONDS, f"{ENTRIES:,} entries, from asking for it")
    figure.add("next CRL", took[1], "s", "<", SECONDS, "as many entries, one of them new")
    figure.add("peak of the jobs process", max(peak, list_peak), "MiB", "<", MEMORY_MIB)
    figure.add("list of serial numbers", listing, "s", "<", LIST_SECONDS, f"{LISTED:,} lines")
    figure.measured = {"crl_seconds": took, "list_seconds": listing, "peak_mib": peak, "list_peak_mib": list_peak}
    return figure


class _Ca:
    """Somebody else's CA."""

    def __init__(self, name: str = "Big") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = clock.now()
        certificate = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(self.key.public_key())
            .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=90))
            .add_extension(x509.BasicConstraints(True, None), True).sign(self.key, hashes.SHA256())
        )  # fmt: skip
        self.certificate = read_certificate(certificate.public_bytes(Encoding.DER))
        self.entries = b""

    @property
    def pem(self) -> str:
        return self.certificate.pem

    def crl(self, number: int, entries: int) -> bytes:
        """A CRL with so many entries; the next one has one more."""
        now = clock.now().replace(microsecond=0)
        if not self.entries:
            times = [now - timedelta(minutes=minute) for minute in range(5_000)]
            made = (
                crls.revoked_entry(b"\x40" + os.urandom(19), times[each % 5_000], (None, 1, 4, 5)[each % 4])
                for each in range(entries)
            )
            self.entries = b"".join(made)
        self.entries += crls.revoked_entry(b"\x41" + os.urandom(19), now, 1)
        identifier = algorithms.key_algorithm_of(self.key).signature_identifier
        tbs = crls.assemble_tbs_crl(
            signature_identifier=identifier, issuer_der=self.certificate.subject.der, this_update=now,
            next_update=now + timedelta(days=1), entries=self.entries, number=number,
            aki=algorithms.key_identifier(self.certificate.spki),
        )  # fmt: skip
        return crls.assemble_crl(tbs, identifier, algorithms.sign(self.key, tbs))


def _write_list(path: Path, count: int) -> None:
    with open(path, "wb") as file:
        for start in range(0, count, 100_000):
            octets = os.urandom(16 * 100_000)
            lines = (octets[16 * each : 16 * each + 16].hex().encode() for each in range(min(100_000, count - start)))
            file.write(b"00" + b"\n00".join(lines) + b"\n")


def _read(product: Installation, name: str, *source: str) -> float:
    """Seconds from creating an authority until its source has been read completely."""
    began = time.perf_counter()
    product.run("ocsp", "authority", "create", name, "--issuer", "ca.pem", "--every", "1h", *source)
    while not (product.json("ocsp", "source", "show", name)["state"] or {}).get("complete"):
        if time.perf_counter() - began > _PATIENCE:
            raise RuntimeError("the source is not read")
        time.sleep(0.2)
    return time.perf_counter() - began


def _pull(product: Installation, name: str) -> float:
    began = time.perf_counter()
    product.run("ocsp", "source", "pull", name, "--timeout", str(_PATIENCE))
    return time.perf_counter() - began


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The folder over HTTP."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
