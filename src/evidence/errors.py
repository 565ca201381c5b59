"""What may end a run early, other than a fault in the program."""

import os

from evidence.passwords import masked


class UserError(Exception):
    """What the user can mend: one line that names the key or file, and the valid choices or what to do.

    The line has no password that an address may have.
    """

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))


# What ends one run and no other. A user's class may call sys.exit. So does submitit, to have a job queued again.
FAILURES = (Exception,) if "SUBMITIT_EXECUTOR" in os.environ else (Exception, SystemExit)


class Terminated(BaseException):
    """SIGTERM, raised where the program stands, as Python does with Ctrl-C and KeyboardInterrupt."""
