"""What screens are made of. No widget knows the backend."""
