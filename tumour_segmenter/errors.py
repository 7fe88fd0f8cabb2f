"""What can go wrong through nobody's fault here; each message is one line that says what to do."""


class ContractError(ValueError):
    """An image or mask that breaks the contract; the message says what was expected.

    `code` is a snake_case name for programs, `status` the HTTP status that fits.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class UsageError(Exception):
    """A command that cannot be run; the message is the one line that its caller sees."""


class ArtifactError(UsageError):
    """A model file that cannot be opened; the message says in one line what to do."""


class SettingsError(UsageError):
    """An environment variable with a value that cannot be used; the message names both."""
