# SPDX-License-Identifier: Apache-2.0
"""Every error type that smnoise raises on purpose, besides ValueError (a value) and TypeError (a type)."""


class SmnoiseError(RuntimeError):
    """Base of the errors below."""


class BackendError(SmnoiseError):
    """A backend was asked for that cannot run here. The message gives each backend's reason."""


class DataError(SmnoiseError):
    """No usable training data: an empty folder, a bad list file, nothing that decodes."""


class PoolError(SmnoiseError):
    """A pool of masks cannot be read (damaged, another version, too large) or written."""


class CheckpointError(SmnoiseError):
    """A checkpoint cannot be read (missing, truncated, altered) or written."""


class FolderInUseError(SmnoiseError):
    """Another process writes into the folder. The message names the process and its machine."""
