"""Timestamping authority: RFC 3161 tokens, their signers, and the proof that the clock is right."""
