"""Per-base tracks and the store that holds them."""
