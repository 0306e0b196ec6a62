"""ACME (RFC 8555): accounts, orders, challenges."""
