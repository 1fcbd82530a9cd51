"""Diagnosis of a world: interventions, checks, one verdict, and recommendations."""
