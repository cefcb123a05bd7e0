"""What the agent says about itself: metrics, access log, structured logs."""
