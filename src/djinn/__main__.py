"""`python -m djinn` is `djinn`."""

from djinn.cli import main

main()
