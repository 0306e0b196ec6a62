"""SCEP: certificates for devices, asked for by signed and encrypted messages (RFC 8894, and clients of its drafts)."""
