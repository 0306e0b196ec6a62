"""Listeners, TLS, worker processes, application composition, health and metrics."""
