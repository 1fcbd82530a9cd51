"""Measuring a world on held-out clips: fidelity, controllability, and a report that says how each number was made."""
