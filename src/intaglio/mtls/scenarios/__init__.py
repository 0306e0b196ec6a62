"""Demonstrations that run: who gets through where, with which certificate from which network, and who does not."""
