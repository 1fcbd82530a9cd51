"""Speed of play and of training on this machine, and memory (`djinn bench`)."""
