"""The one exception that broken or missing data raises."""


class DataError(ValueError):
    """Data that cannot be used as it is: the message is one line and names the file or folder.

    Raised by `open_dataset` (missing folder, empty class, mismatched classes) and by a loader's iterator
    (missing, unreadable or truncated image).
    """
