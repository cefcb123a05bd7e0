"""agent.yaml and the environment, parsed once at the edge into frozen values that know their source."""
