"""Mutual TLS identity: who is calling, proved by a certificate."""
