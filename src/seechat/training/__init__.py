"""How experts and stitched models are trained."""
