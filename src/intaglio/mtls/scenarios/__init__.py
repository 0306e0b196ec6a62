"""Scenarios that really run, expected against observed."""
