"""Exception for invalid input."""


class UserError(ValueError):
    """Invalid input or an invalid request of the user.

    The message is one sentence that names the offending value and the remedy. The command line
    prints it without a traceback and exits with code 2; the play server shows it on the page.
    """
