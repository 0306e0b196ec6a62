"""The installation as one document: read it, compare it with what is wanted, apply the difference."""
