"""The error with which a command ends."""

NOT_ENOUGH = 3  # exit code: there is not enough data for a result


class CommandError(Exception):
    """An expected end of a command: one line for the person, no traceback.

    Args:
        reason: One line with the fault and the remedy.
        exit_code: 2 for wrong use or configuration, 1 when the answer is no or a step failed;
            3 for not enough data.
    """

    def __init__(self, reason: str, exit_code: int = 2) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
