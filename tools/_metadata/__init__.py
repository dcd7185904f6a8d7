"""A cloud's instance metadata service for tests and demonstrations: what ``tools/metadata`` serves.

Standard library alone, so that any Python from 3.11 on runs it without an installation.
"""
