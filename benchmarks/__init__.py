"""Measures a running server from outside: how right it is (scorer) and how fast (latency)."""
