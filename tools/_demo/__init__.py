"""What ``tools/demo`` runs: a task, nodes for it, and the telling of what happens."""
