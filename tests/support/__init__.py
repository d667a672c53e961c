"""Fakes, oracles and small models shared by the tests."""
