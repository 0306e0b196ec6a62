"""Revocation and rotation drills, and the runbook."""
