"""Tests of the server and of the steering engine."""
