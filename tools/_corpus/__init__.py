"""Records the journals in tests/journals: real runs, and what becomes of them when tampered with."""
