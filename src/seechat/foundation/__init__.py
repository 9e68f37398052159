"""What everything stands on: strict specs, whole files, provenance, seeds. Knows nothing of models."""
