"""Run the command line as `python -m djinn`."""

from djinn.cli import main

main()
