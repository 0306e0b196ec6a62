"""ACME (RFC 8555): certificates for names whose control was proven, asked for by programs.

``app`` takes a request apart and finds who signed it (``jws``, ``nonces``); what is asked for is done by ``accounts``,
``orders``, ``authorizations``, ``challenges``, ``finalization``, ``certificates`` and ``renewal_info``, each of which
reads like its section of the standard.
"""
