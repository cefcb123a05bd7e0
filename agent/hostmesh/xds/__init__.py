"""Delta ADS: protocol buffers to the model and back, the client, the cached snapshot."""
