"""Files that mean no good, made by code from photographs and nothing, and what watches the decoders while they look."""
