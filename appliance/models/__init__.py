"""What an operator does with models: which there are and what they answer, fetching, checking, loading, trying one."""
