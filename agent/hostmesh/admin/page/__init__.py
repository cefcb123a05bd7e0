"""The agent's web page: what it knows, for a person on the host; read-only, nothing from elsewhere."""
