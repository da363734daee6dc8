"""What the screens ask and have done: one file a subject, functions that take the Desk. The only room that imports
appliance; every function blocks, and is called from a thread."""
