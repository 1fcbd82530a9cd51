"""Video data: decoding, the store of frames that training reads, and the importers that fill it."""
