"""Importers, one file per kind of source.

A module with a constant `IMPORTER` adds a kind of source: it is found by `registry.importers` and
becomes a sub-command of `djinn data import`. See `djinn.data.importers.importer.Importer`.
"""
