"""Certificate Management Protocol (CMP): RFC 9810 over HTTP (RFC 9811), with the Lightweight Profile (RFC 9483).

A message is read (``asn1.cmp``), its sender is authenticated (``authentication``), its body is answered by one of
``certifying``, ``confirming``, ``polling``, ``revoking`` and ``information``, and the answer is protected the way the
question was (``protection``). What has to be known from one message to the next is one row (``transactions``).
"""
