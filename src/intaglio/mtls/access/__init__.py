"""Access decisions: who is calling, and may he."""
