"""Trust domains, the registry of identities, and certificates for them."""
