"""Media for tests: two kept files with their sources, and what code can make."""
