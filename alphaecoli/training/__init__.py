"""Steps and the loop around them."""
