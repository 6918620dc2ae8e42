"""The exceptions that are meant for the person at the keyboard."""


class UserError(Exception):
    """A mistake in input, configuration or surroundings.

    The message says in one line what is wrong, where, and what to do. Commands print it without a traceback and exit
    with a non-zero status.
    """

    may_pass = False


class NotAnnotatedError(UserError):
    """What is given in place of annotated data is none, such as raw text."""


class PassingError(UserError):
    """What is wrong may be gone at the next try: launchers that restart runs try once more before they tell the person.

    A loss that is not finite, for one, comes from the data and the learning rate, or from a failing device.
    """

    may_pass = True
