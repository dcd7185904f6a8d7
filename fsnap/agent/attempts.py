"""Which task this is, and which attempt, from the flags and the scheduler's variables."""

from __future__ import annotations

from collections.abc import Mapping

from fsnap.core.model import Attempt
from fsnap.errors import UsageError
from fsnap.ids import check_task_id, full_task_id


def identify(
    *, task: str | None, step: str | None, attempt: int | None, env: Mapping[str, str]
) -> tuple[str, Attempt | None]:
    """The task's whole id and its attempt; :class:`UsageError` off a scheduler without ``--task``.

    AWS Batch: ``AWS_BATCH_JOB_ID`` (an array's child has its index in it; where it has not,
    ``AWS_BATCH_JOB_ARRAY_INDEX`` is added) and ``AWS_BATCH_JOB_ATTEMPT`` (docs.aws.amazon.com/batch,
    "Job environment variables").
    """
    scheduled = _aws_batch(env)
    if task is not None:
        check_task_id(task)
    elif scheduled is not None:
        task = scheduled.job
    else:
        raise UsageError("no --task, and no scheduler's variables name one", hint="Say --task ID.")
    if step is not None:
        check_task_id(step, "--name")
    if attempt is not None:
        if attempt < 0:
            raise UsageError(f"--attempt {attempt}: it counts from 0 or 1 up")
        counted: Attempt | None = Attempt(scheduler="manual", job=task, number=attempt)
    else:
        counted = scheduled
    return full_task_id(task, step), counted


def on_aws_batch(env: Mapping[str, str]) -> bool:
    """The process runs in an AWS Batch job."""
    return bool(env.get("AWS_BATCH_JOB_ID"))


def _aws_batch(env: Mapping[str, str]) -> Attempt | None:
    job = env.get("AWS_BATCH_JOB_ID")
    if not job:
        return None
    index = env.get("AWS_BATCH_JOB_ARRAY_INDEX")
    if index and not job.endswith(f":{index}"):
        job = f"{job}:{index}"
    number = env.get("AWS_BATCH_JOB_ATTEMPT", "1")
    if not number.isdigit():
        raise UsageError(f"AWS_BATCH_JOB_ATTEMPT is {number!r}, which is no number")
    return Attempt(scheduler="aws-batch", job=check_task_id(job, "AWS_BATCH_JOB_ID"), number=int(number))
