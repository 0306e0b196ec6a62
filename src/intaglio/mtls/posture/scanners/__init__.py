"""Scanners: switched-off verification in code, private keys that lie open, endpoints that prove nothing."""
