"""Text: normalising it, its language, the blocklist, and what the prompt check makes of them all."""
