"""Webhooks: where results are sent, how they are signed, and every attempt that was made."""
