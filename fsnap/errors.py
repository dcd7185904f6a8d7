"""Every failure that a user can see: one class, one code, one exit code, one hint.

A class owns its identity: ``code`` is stable and machine readable, ``exit_code``
is what ``fsnap`` ends with, ``hint`` says what to do about it, ``retryable`` says
whether the same call may succeed later.  The command line prints
``fsnap: <message>. <hint>`` and never a traceback.
"""

from __future__ import annotations

EXIT_USAGE = 2
EXIT_NO_SUCH_COMMAND = 127
EXIT_STORE = 174
EXIT_RECLAIMED_UNSAVED = 175
EXIT_RESTORE_FAILED = 176
EXIT_CHECKPOINTED = 177
EXIT_NOT_OURS = 178


class FsnapError(Exception):
    """Base of all expected failures.

    ``str(error)`` is one line: what happened and where.  ``hint`` is one more
    sentence: what to do.  A subclass may be given a hint of its own per raise.
    """

    code = "internal"
    exit_code = 1
    hint = ""
    retryable = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class UsageError(FsnapError):
    """A flag, a variable or a file that the user gave is wrong."""

    code = "usage"
    exit_code = EXIT_USAGE
    hint = "See 'fsnap run --help'."


class UnfitMachine(FsnapError):
    """This machine cannot checkpoint (no root, no CRIU, no namespaces)."""

    code = "unfit-machine"
    exit_code = EXIT_USAGE
    hint = "Fix the machine, or run the task without protection with --unprotected-ok."


class NoSuchCommand(FsnapError):
    """The task's command does not exist or cannot be executed."""

    code = "no-such-command"
    exit_code = EXIT_NO_SUCH_COMMAND
    hint = "CMD must exist on every node at the same path."


class StoreError(FsnapError):
    """The store answered with a failure, or not at all."""

    code = "store"
    exit_code = EXIT_STORE
    hint = "Check the URL, the credentials and the network."


class StoreUnavailable(StoreError):
    """The store did not answer, or said that it is busy; the same call may succeed later."""

    code = "store-unavailable"
    retryable = True


class StoreUnfit(StoreError):
    """The store lacks what the protocol needs (it ignores the create-only condition)."""

    code = "store-unfit"
    hint = "Use a store that honours conditional creates."


class ObjectMissing(StoreError):
    """No object under this key."""

    code = "object-missing"


class ObjectExists(StoreError):
    """A conditional create met an object that is already there."""

    code = "object-exists"


class CorruptData(FsnapError):
    """Bytes read back differ from the digest they were stored under, or cannot be parsed."""

    code = "corrupt-data"
    exit_code = EXIT_RESTORE_FAILED
    hint = "The snapshot is not used; an older one is, if there is one."


class SealBroken(CorruptData):
    """Something sealed does not open: it was changed, or put in the place of another."""

    code = "seal-broken"
    hint = "Bring the object back from an older version in the bucket, and look at who can write there."


class SealError(FsnapError):
    """What is sealed and the keys that there are do not go together; nothing is wrong with either."""

    code = "seal"
    exit_code = EXIT_USAGE


class KeyNeeded(SealError):
    """Something sealed, and no key file."""

    code = "key-needed"
    hint = "Name the file with --key-file or FSNAP_KEY_FILE."


class WrongKey(SealError):
    """Something sealed with a key that the key file lacks."""

    code = "wrong-key"
    hint = "Add that key to the key file, below the one that seals."


class NotSealed(SealError):
    """Something plain where there are keys: anybody who can write to the store may have made it."""

    code = "not-sealed"
    hint = "Begin a task of another id to have it sealed, or go on with this one without a key file."


class KeyFileError(UsageError):
    """The key file can't be read, or must not be used as it is."""

    code = "key-file"
    hint = "Each line is an id and the base64 of 32 random bytes; docs/sealing.rst shows how to make one."


class NewerSchema(FsnapError):
    """Something was written by a newer fsnap than this one."""

    code = "newer-schema"
    exit_code = EXIT_USAGE
    hint = "Install at least the version that it names."


class NotOurs(FsnapError):
    """The task is live elsewhere, or this node's claim was superseded."""

    code = "not-ours"
    exit_code = EXIT_NOT_OURS
    hint = "Wait for it to end, or say --attempt N if the scheduler has started a later attempt."


class Fenced(NotOurs):
    """Another node created the next record of this task's journal."""

    code = "fenced"
    hint = "The newer attempt goes on with the task; this copy was stopped."


class RestoreFailed(FsnapError):
    """No committed snapshot could be restored."""

    code = "restore-failed"
    exit_code = EXIT_RESTORE_FAILED
    hint = "Start it again to retry, or with --on-restore-failure restart to begin anew."


class CheckpointFailed(FsnapError):
    """CRIU could not dump the tree; the task goes on."""

    code = "checkpoint-failed"
    exit_code = EXIT_RECLAIMED_UNSAVED


class CapsuleError(FsnapError):
    """The capsule could not be made, or its init does not answer."""

    code = "capsule"
    exit_code = EXIT_USAGE
    hint = "It needs root with CAP_SYS_ADMIN, and the right to mount."


class AgentCrash(FsnapError):
    """A defect of fsnap itself; the task's capsule is left alive."""

    code = "agent-crash"
    hint = "The task goes on in its capsule: the same command takes it over. Please report this."


class IllegalTransition(FsnapError):
    """The chart has no such step from this state; a defect, never a user's fault."""

    code = "illegal-transition"


class BadChart(FsnapError):
    """A state chart that must not be used."""

    code = "bad-chart"
