"""The agent: keeps the certificate of one identity fresh on the machine that uses it.

It runs for years beside small services, so it imports little: no module of the server, no web framework.
"""
