"""Cryptographic Message Syntax: signed and encrypted messages, read within limits and written in DER (RFC 5652)."""
