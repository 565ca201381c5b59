"""What may end a run early, other than a fault in the program."""


class UserError(Exception):
    """What the user can mend: one line that names the key or file, and the valid choices or what to do."""


class Terminated(BaseException):
    """SIGTERM, raised where the program stands, as Python does with Ctrl-C and KeyboardInterrupt."""
