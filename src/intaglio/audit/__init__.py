"""Audit records, their sealing into a signed Merkle chain, and verification."""
