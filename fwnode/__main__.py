"""`python -m fwnode`."""

from fwnode.cli import main

main()
