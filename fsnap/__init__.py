"""fsnap keeps the work of batch tasks on machines that are taken away."""

__version__ = "0.1.0"
