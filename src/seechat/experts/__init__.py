"""The single-modal experts."""
