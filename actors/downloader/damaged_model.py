"""What is said when a model's files cannot be served."""


class DamagedModel(Exception):
    """One file of a model folder is missing, cut short, or not what it should be; no retry heals that."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file} {reason}")
        self.file = file
        self.reason = reason
