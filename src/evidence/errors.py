"""What may end a run early, other than a fault in the program."""

import signal
import traceback

from evidence.passwords import masked


class UserError(Exception):
    """What the user can mend: one line that names the key or file, and the valid choices or what to do.

    The line has no password that an address may have.
    """

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))


class Terminated(BaseException):
    """SIGTERM, raised where the program stands, as Python does with Ctrl-C and KeyboardInterrupt."""


def is_failure(error: BaseException) -> bool:
    """Whether it ends one run and no other: any Exception, and SystemExit where a user's class calls sys.exit.

    The handler of a signal may call it too. It means the process then, as where submitit has a job queued again.
    """
    if not isinstance(error, SystemExit):
        return isinstance(error, Exception)
    handlers = [signal.getsignal(each) for each in signal.valid_signals()]
    codes = {getattr(getattr(each, "__func__", each), "__code__", None) for each in handlers}
    return not any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))
