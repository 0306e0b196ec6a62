"""The OCSP responder: requests in, signed answers out. Sources: RFC 6960, 5019 (caching), 9654 (nonce)."""
