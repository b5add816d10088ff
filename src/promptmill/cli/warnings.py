"""What a run warns of, on stderr."""

from __future__ import annotations

from promptmill.cli.terminal import tell
from promptmill.interfaces import Observer


class TellWarnings(Observer):
    """Tells each warning as it comes."""

    def warned(self, message: str) -> None:
        tell(f"warning: {message}")
