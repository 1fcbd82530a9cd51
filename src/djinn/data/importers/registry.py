"""Registry of the importers in this package."""

from __future__ import annotations

import functools
import pkgutil
from importlib import import_module
from typing import Any

from djinn.data import importers as package
from djinn.data.importers.importer import Importer, ImportOptions


@functools.cache
def importers() -> dict[str, Importer[Any]]:
    """Return the importers by their kind: the `IMPORTER` of each module of this package."""
    modules = (import_module(f"{package.__name__}.{module.name}") for module in pkgutil.iter_modules(package.__path__))
    found = [module.IMPORTER for module in modules if hasattr(module, "IMPORTER")]
    return {importer.kind: importer for importer in found}


def importer_of(options: ImportOptions) -> Importer[Any]:
    """Return the importer that has this type of options."""
    return next(importer for importer in importers().values() if importer.options is type(options))
