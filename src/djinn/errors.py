"""The one exception for what a user got wrong."""


class UserError(ValueError):
    """A mistake of the user: its message names the thing and the remedy in one sentence.

    The command line prints the message without a traceback and exits with 2; the play server shows it on the page.
    """
