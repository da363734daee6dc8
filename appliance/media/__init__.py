"""Pictures out of files: what a file is (probe), and its decoding, which happens in limited child processes only."""
