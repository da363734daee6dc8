"""Who may administer: the Unix group decides."""
