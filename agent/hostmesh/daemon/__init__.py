"""The agent program: composition root, proxy workers, supervision."""
