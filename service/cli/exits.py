"""How a command ends."""

FAILED, USAGE, SOME_FAILED, INTERRUPTED = 1, 2, 3, 130
EXIT_CODES = """exit codes:
  0    done: every picture has a caption
  1    it could not be done: the model, the service or the port
  2    wrong arguments or settings
  3    some pictures have no caption; why is on stderr
  130  interrupted"""


class UsageError(ValueError):
    """The arguments ask for what cannot be."""


def missing_extra(what: str, extra: str) -> UsageError:
    return UsageError(f"{what} takes the extra '{extra}': pip install '.[{extra}]' in the project's folder")
