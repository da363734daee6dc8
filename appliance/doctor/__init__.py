"""Is this box all right? Checks in groups, each with its cause, its evidence and the fix. Runs before installation, too."""
