"""How good the models are, with what certainty, and the page that says so."""
