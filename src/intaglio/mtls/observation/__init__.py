"""Access events, alerts, baselines, logs of others."""
