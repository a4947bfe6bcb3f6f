"""What a failed command tells its caller: one sentence on stderr and an exit code that means something."""

from __future__ import annotations

EXIT_OK = 0
EXIT_REFUSED = 1
"""The platform answered no, or a check that the command makes did not hold."""
EXIT_USAGE = 2
"""The command line itself is wrong (given by the argument parser)."""
EXIT_UNREACHABLE = 3
"""Nothing answers where the platform should be."""
EXIT_NOT_FOUND = 4
"""The platform answered that the thing named does not exist."""


class CommandFailed(Exception):
    """Ends the command with `exit_code`; the text is one sentence that says what was wrong and what to do."""

    def __init__(self, message: str, exit_code: int = EXIT_REFUSED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
