"""Client credentials for our own calls to others."""
