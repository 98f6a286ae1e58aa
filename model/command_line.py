"""How the commands speak: help that ends in examples and exit statuses, and one line about wrong usage."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

WRONG_USAGE = 2


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments; the end of the help stands as it was written."""

    def __init__(self, **options: Any) -> None:
        """Keep the lines of the epilog."""
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        """Print the message and leave."""
        self.exit(WRONG_USAGE, f"error: {message} ({self.prog} --help says more)\n")
