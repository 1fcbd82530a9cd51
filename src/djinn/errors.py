"""Exception for mistakes of the user."""


class UserError(ValueError):
    """A mistake of the user, with a message of one sentence on what is wrong and the remedy.

    The command line prints the message without a traceback and exits with status 2. The play server
    shows it on the page.
    """
