"""Synchronous decisions on texts: routing, the decision, its event, quota and use."""
