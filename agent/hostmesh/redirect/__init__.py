"""Capture: the plan of rules (pure) and its applier."""
