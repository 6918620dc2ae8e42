"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """A mistake in input, configuration or surroundings.

    The message says in one line what is wrong, where, and what to do. Commands print it without a traceback and exit
    with a non-zero status.
    """
