"""Reads the words after a command, and reports wrong ones in one line."""

import argparse
from typing import NoReturn


class OneLine(argparse.ArgumentParser):
    """A parser that reports wrong arguments in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"evidence: {message.replace('argument ', '').replace('invalid choice: ', '')}\n")
