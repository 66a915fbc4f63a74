"""How a command says that it cannot go on."""

NOT_ENOUGH = 3  # exit code: there is not enough data to say


class CommandError(Exception):
    """An expected end of a command: one line for the person, no traceback.

    Args:
        reason: One line: what is wrong and what to do about it.
        exit_code: 2 for wrong use or configuration, 1 when the answer is no or something failed on the way;
            3 not enough data to say.
    """

    def __init__(self, reason: str, exit_code: int = 2) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
