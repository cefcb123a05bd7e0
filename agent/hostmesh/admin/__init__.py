"""The agent's HTTP doors: admin 15000, stats 15020, readiness 15021."""
