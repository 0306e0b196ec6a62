"""Enrollment over Secure Transport. Sources: RFC 7030, RFC 8951, RFC 9908."""
