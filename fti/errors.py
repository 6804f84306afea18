"""The errors FTI raises on purpose. Each message names what is wrong and the remedy."""


class FtiError(Exception):
    """Base of every error that a user of FTI can mend."""


class DataError(FtiError):
    """Data that must not go on: a missing column, a broken rule, an unreadable file."""


class NotReadyError(FtiError):
    """Something that must exist first (a dataset, a champion, a service) does not exist yet."""


class GateError(FtiError):
    """A model that failed a gate was asked to be promoted."""


class ConflictError(FtiError):
    """Somebody else changed the same state in between; nothing was written."""


class ChangeError(FtiError):
    """Code that changes, under the same name, what a served model reads; nothing was registered."""
