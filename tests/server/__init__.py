"""Tests of the service: units without an engine, and one real server for the rest."""
