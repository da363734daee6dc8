"""Policies: what an organisation wants done about what the analyzers find. Versions never change."""
