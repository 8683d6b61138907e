"""Where commands print."""

from __future__ import annotations

import os
import sys

from rich.console import Console


class Output(Console):
    """Standard output, which takes words as they are: a path may hold brackets and colons."""

    def __init__(self) -> None:
        """See the class."""
        super().__init__(markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Go on in silence where nobody reads any longer, as after `| head`."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(words: str) -> None:
    """Say on standard error why a command did not end as it should."""
    console = Console(stderr=True, markup=False, emoji=False)
    console.print(f"fnn: {words}", highlight=False, soft_wrap=True)
