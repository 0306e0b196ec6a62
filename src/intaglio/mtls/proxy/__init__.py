"""The built-in mutual TLS gateway."""
