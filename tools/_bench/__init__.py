"""What ``tools/bench`` runs: a process of a stated mix, fsnap, the naive way, and the figures."""
