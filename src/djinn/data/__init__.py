"""Video data: importers, decoding, data sets on disk and batches of clips for training."""
