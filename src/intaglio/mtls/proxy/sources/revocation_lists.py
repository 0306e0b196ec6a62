"""Revocation by CRL files. Source: RFC 5280 section 6.3."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from intaglio.core import clock
from intaglio.core.errors import InvalidInput, Unavailable

_FILE_LIMIT = 64 << 20
_DELTA = x509.DeltaCRLIndicator.oid


@dataclass(frozen=True)
class RevocationLists:
    """The CRLs at hand. Two of one CA may each cover a part of its certificates: a serial has to be in none."""

    lists: tuple[x509.CertificateRevocationList, ...]
    _signed: dict[tuple[int, x509.Certificate], bool] = field(default_factory=dict, repr=False, compare=False)

    def status(self, certificate: x509.Certificate, issuer: x509.Certificate) -> str | None:
        """``revoked``, ``status_unavailable`` or None when the certificate is good."""
        mine = [each for each in self.lists if each.issuer == certificate.issuer and self._is_signed(each, issuer)]
        if any(each.get_revoked_certificate_by_serial_number(certificate.serial_number) for each in mine):
            return "revoked"
        now = clock.now()
        current = [each for each in mine if each.next_update_utc is not None and now < each.next_update_utc]
        return None if current and len(current) == len(mine) else "status_unavailable"

    def _is_signed(self, crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
        key = (id(crl), issuer)
        if key not in self._signed:
            self._signed[key] = _is_signed(crl, issuer)
        return self._signed[key]


def read_lists(paths: Iterable[Path]) -> RevocationLists:
    """Read CRL files (DER or PEM). Raises Unavailable when one cannot be read, InvalidInput when it is no full CRL."""
    return RevocationLists(tuple(_read(path) for path in paths))


def chain_status(lists: RevocationLists, chain: Sequence[bytes]) -> str | None:
    """The status of a verified chain (DER, leaf first, trust anchor last): that of its first bad certificate."""
    certificates = [loaded(each) for each in chain]
    for certificate, issuer in pairwise(certificates):
        if (found := lists.status(certificate, issuer)) is not None:
            return found
    return None


@lru_cache(maxsize=4096)
def loaded(certificate: bytes) -> x509.Certificate:
    """The certificate behind DER octets. Raises ValueError."""
    return x509.load_der_x509_certificate(certificate)


def _read(path: Path) -> x509.CertificateRevocationList:
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_LIMIT)
        pem = data.lstrip().startswith(b"-----BEGIN")
        found = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
        is_delta = any(extension.oid == _DELTA for extension in found.extensions)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}.", code="crl-unreadable") from None
    except ValueError as error:
        raise InvalidInput(f"{path} is not a CRL: {error}.", code="crl-invalid") from None
    if is_delta:
        raise InvalidInput(f"{path} is a delta CRL.", code="crl-invalid", remedy="Name the complete CRL.")
    return found


def _is_signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (UnsupportedAlgorithm, TypeError, ValueError):
        return False
