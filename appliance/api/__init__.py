"""The HTTP surfaces: a file each. A handler recognises, parses, does one verb, wakes whom it must, answers."""
