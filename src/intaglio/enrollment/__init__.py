"""Enrolment protocols: endpoints at which devices, servers and people ask for certificates in the protocol they speak.

Each protocol is an adapter in a package of its own (``acme``, ``est``, ``scep``, ``cmp``); they do not know each other.
What they have in common is here: endpoints and tenants, who may ask, limits, approvals, and the one way to the gateway.
"""
