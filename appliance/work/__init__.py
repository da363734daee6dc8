"""What the worker process does with a job: claim its children, do them, record what was found."""
