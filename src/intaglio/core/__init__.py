"""The lowest floor: settings, errors, clock, identifiers, secrets and logging. It imports nothing of Intaglio."""
