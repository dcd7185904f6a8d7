"""Seeded simulation of the whole agent; started by ``tools/simulate``."""
