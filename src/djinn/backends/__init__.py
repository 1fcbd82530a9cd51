"""Inference engines that implement `djinn.generate.backend.Backend`."""
