"""How good a network or a bundle is on held-out pairs."""
