"""Latent actions: names, labels by majority vote, and the choice of prompts that respond to them."""
