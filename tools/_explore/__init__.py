"""Exhaustive exploration of the protocol; ``tools/explore`` runs it."""
