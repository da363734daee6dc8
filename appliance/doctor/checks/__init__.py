"""The checks, one file a group. Only the standard library is imported at the top of each."""
