"""Who may ask, and for what: organisations, keys, scopes, toggles, custom categories."""
