"""The embedded picture world: real artwork, exact answers, no download."""
