"""The command line. Commands import what they need when they run, so that each starts fast."""

import sys


def main() -> None:
    """Run the command named by the arguments and exit with its code."""
    from fwnode.cli.app import run_app

    sys.exit(run_app(sys.argv[1:]))
