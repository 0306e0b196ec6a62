"""Whether the clock of this host may be trusted, asked of those who know better."""
