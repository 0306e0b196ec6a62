"""What a failed TLS handshake means, in words. Source: RFC 8446 section 6.2, RFC 5246 section 7.2.2."""

from __future__ import annotations

import ssl
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """Why a connection did not come about: a stable code, a sentence, what to do."""

    code: str
    why: str
    remedy: str


#: Alert, as OpenSSL spells it -> what it means for us.
_ALERTS = {
    "UNKNOWN_CA": Failure(
        "unknown_ca", "The server does not know the CA of our certificate.", "Give its manager the CA certificate."
    ),
    "CERTIFICATE_REQUIRED": Failure(
        "certificate_required", "The server demands a client certificate.", "Import or install a certificate."
    ),
    "BAD_CERTIFICATE": Failure(
        "bad_certificate", "The server could not accept our certificate.", "Ask its manager which ones it takes."
    ),
    "UNSUPPORTED_CERTIFICATE": Failure(
        "unsupported_certificate", "The server does not support our kind of certificate.", "Use RSA or P-256."
    ),
    "CERTIFICATE_REVOKED": Failure(
        "certificate_revoked", "The server says that our certificate is revoked.", "Rotate to a new certificate."
    ),
    "CERTIFICATE_EXPIRED": Failure(
        "certificate_expired", "The server says that our certificate expired.", "Rotate to a new certificate."
    ),
    "CERTIFICATE_UNKNOWN": Failure(
        "certificate_unknown", "The server refuses our certificate without a reason.", "Share it with its manager."
    ),
    "ACCESS_DENIED": Failure(
        "access_denied", "The server knows our certificate and denies access.", "Ask its manager for the right."
    ),
    "HANDSHAKE_FAILURE": Failure(
        "handshake_failure",
        "The server ended the handshake: no common algorithms, or it demands a certificate.",
        "Check that it was given our certificate, and which algorithms it speaks.",
    ),
    "DECRYPT_ERROR": Failure(
        "decrypt_error", "The server could not verify our signature.", "Check that key and certificate belong together."
    ),
    "PROTOCOL_VERSION": Failure(
        "protocol_version", "Server and we speak no common version of TLS.", "Have it speak TLS 1.2 or 1.3."
    ),
    "INSUFFICIENT_SECURITY": Failure(
        "insufficient_security", "The server demands stronger algorithms.", "Use a stronger key."
    ),
    "UNRECOGNIZED_NAME": Failure("unrecognized_name", "The server does not know the name.", "Check host and SNI."),
    "NO_APPLICATION_PROTOCOL": Failure("no_application_protocol", "The server speaks no HTTP here.", "Check the port."),
    "INTERNAL_ERROR": Failure("internal_error", "The server failed.", "Try again later; ask its manager."),
}
_ALIASES = {"SSLV3_ALERT_CERTIFICATE_UNKNOWN": "CERTIFICATE_UNKNOWN", "UNSUPPORTED_PROTOCOL": "PROTOCOL_VERSION"}
_PREFIXES = ("SSLV3_ALERT_", "TLSV1_ALERT_", "TLSV13_ALERT_", "TLSV1_")

#: Errors of our own verification of the server (X509_V_ERR_*).
_VERIFICATION = {
    10: Failure("server_expired", "The server's certificate expired.", "Ask its manager to renew it."),
    9: Failure("server_not_yet_valid", "The server's certificate is not valid yet.", "Check the clocks."),
    18: Failure("server_self_signed", "The server's certificate is self-signed.", "Set it as server CA to pin it."),
    23: Failure("server_revoked", "The server's certificate is revoked.", "Ask its manager."),
    62: Failure("server_wrong_name", "The server's certificate is for another name.", "Check host and SNI."),
    64: Failure("server_wrong_name", "The server's certificate is for another address.", "Check the host."),
}
_UNTRUSTED = Failure(
    "server_untrusted", "No trusted CA vouches for the server.", "Set the server CA of this outbound credential."
)
_CLOSED = Failure("connection_closed", "The server closed the connection without a reason.", "Ask its manager.")


def explained(error: BaseException) -> Failure:
    """The failure of a connection attempt, in words; never raises."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFICATION.get(error.verify_code, _UNTRUSTED)
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError | EOFError):
        return _CLOSED
    if isinstance(error, ssl.SSLError):
        return _of_reason(error.reason or "")
    if isinstance(error, TimeoutError):
        return Failure("timeout", "The server did not answer in time.", "Check address, port and firewall.")
    if isinstance(error, OSError):
        why = error.strerror or "the connection failed"
        return Failure("unreachable", f"The server cannot be reached: {why}.", "Check address, port and firewall.")
    return Failure("unreachable", "The connection failed.", "Check address, port and firewall.")


def _of_reason(reason: str) -> Failure:
    name = _ALIASES.get(reason, reason)
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    known = _ALERTS.get(name)
    if known is not None:
        return known
    words = name.replace("_", " ").lower() or "unknown"
    return Failure("tls_failure", f"The TLS handshake failed: {words}.", "Ask the manager of the server.")
