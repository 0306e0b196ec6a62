"""Checks of a request against what others have published."""
