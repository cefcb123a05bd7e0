"""How bytes move: the worker's epoll loop, listeners, TLS engines, back-off."""
