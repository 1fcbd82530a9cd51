"""Names and keys of latent actions, and prompts from which they have an effect."""
