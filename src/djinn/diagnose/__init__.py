"""Checks, interventions and one verdict on a world, with recommendations."""
