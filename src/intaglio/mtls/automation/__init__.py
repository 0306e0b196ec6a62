"""Certificates without people: agent, Vault-compatible interface, pipelines."""
