"""Releases side by side: what one is, which one runs, going to another and back."""
