"""Generated protocol buffers (sources in proto/ at the top of the repository)."""
