"""The directory trees that travel with a task, and their baselines."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

from fsnap.agent.output import own_stream_paths
from fsnap.agent.restart import restarted
from fsnap.agent.settings import RunSettings
from fsnap.capsule.mounts import CapsuleMounts, within
from fsnap.durable import make_directory, write_atomic, write_private
from fsnap.errors import CorruptData, NewerSchema
from fsnap.snapshots.baseline import Baseline
from fsnap.snapshots.seen import Seen
from fsnap.snapshots.trees import TreeSource

WRAPPER_FILES = ("/.command.*", "/.exitcode")
"""What Nextflow keeps beside a task in its work directory: its own on each node, not the task's."""


class Trees:
    """What to capture: state dirs, the uppers of the overlays, shared memory."""

    def __init__(self, *, settings: RunSettings, mounts: CapsuleMounts, keep: Path, first: Path) -> None:
        self._keep = keep
        self._first = first
        self._settings = settings
        self._mounts = mounts
        self._baselines: dict[str, Baseline] = {}
        self._seen: dict[str, Seen] = {}
        self._stop_hashing = threading.Event()

    def state_names(self) -> list[tuple[str, Path]]:
        """Tree name and directory of each state dir."""
        return [(f"state-{n}", path) for n, path in enumerate(self._settings.state_dirs)]

    def scratch_names(self, scratch: Path) -> list[tuple[str, Path]]:
        """Tree name and upper directory of each overlay, below *scratch*."""
        return [(o.name, scratch / o.name / "upper") for o in self._mounts.overlays]

    def excluded(self, state_dir: Path) -> tuple[str, ...]:
        """The user's globs, and this process's own output files where they lie in *state_dir*."""
        own = [*own_stream_paths(), *(str(p) for p in self._own_files() if p is not None)]
        inside = [str(Path(path).relative_to(state_dir)) for path in own if within(path, str(state_dir))]
        wrapper = WRAPPER_FILES if (state_dir / ".command.run").exists() else ()
        return (*self._settings.exclude, *wrapper, *(_literal(path) for path in inside))

    def _own_files(self) -> tuple[Path | None, ...]:
        return (self._settings.stdout, self._settings.stderr, self._settings.result_file)

    def take_baseline(self) -> None:
        """Record what is there before the task starts, and read it in the background."""
        for name, path in self.state_names():
            found = Baseline.scan(path, self.excluded(path))
            self._baselines[name] = self._since_first(name, path, found, from_nothing=True)
        self.keep_baselines()
        threading.Thread(target=self._hash, name="inputs", daemon=True).start()

    def keep_baselines(self) -> None:
        """Write them down, for an agent that takes over this capsule."""
        for name, baseline in self._baselines.items():
            write_private(self._keep / f"baseline-{name}", baseline.to_bytes())

    def load_baselines(self) -> None:
        """Those that an earlier agent of this capsule wrote down."""
        for name, _ in self.state_names():
            path = self._keep / f"baseline-{name}"
            if path.exists():
                self._baselines[name] = Baseline.from_bytes(path.read_bytes(), where=str(path))

    def set_baseline(self, name: str, baseline: Baseline) -> None:
        """The baseline of a restored attempt."""
        path = dict(self.state_names())[name]
        self._baselines[name] = self._since_first(name, path, baseline, from_nothing=False)

    def _since_first(self, name: str, path: Path, found: Baseline, *, from_nothing: bool) -> Baseline:
        """*found* without what an earlier attempt on this disk may have left; the first one is remembered."""
        file = self._first / f"{name}-{_identity(path)}"
        if from_nothing and self._settings.fresh and not restarted():
            file.unlink(missing_ok=True)
        try:
            first = Baseline.from_bytes(file.read_bytes(), where=str(file))
        except (FileNotFoundError, CorruptData, NewerSchema):
            make_directory(self._first)
            write_atomic(file, found.to_bytes())
            return found
        return found.since(first, gone=from_nothing)

    def forget_first(self) -> None:
        """The task has ended: nobody goes on from here."""
        shutil.rmtree(self._first, ignore_errors=True)

    def _hash(self) -> None:
        for name, path in self.state_names():
            if self._stop_hashing.is_set():
                return
            self._baselines[name].hash_all(path, self._stop_hashing.is_set)

    def stop(self) -> None:
        """End the background reading."""
        self._stop_hashing.set()

    def learn(self, seen: dict[str, Seen]) -> None:
        """What a committed snapshot saw: unchanged files are not read again."""
        self._seen = seen

    def file_sources(self) -> list[TreeSource]:
        """The state dirs alone."""
        return [
            TreeSource(
                name=name,
                root=path,
                exclude=self.excluded(path),
                baseline=self._baselines.get(name),
                include_inputs=self._settings.include_inputs,
                unchanged=self._seen.get(name),
                append_only=self._settings.append_only,
            )
            for name, path in self.state_names()
        ]

    def all_sources(self, scratch: Path) -> list[TreeSource]:
        """Everything but CRIU's images."""
        uppers = [
            TreeSource(name=name, root=path, kind="overlay-upper", unchanged=self._seen.get(name))
            for name, path in self.scratch_names(scratch)
        ]
        return [*self.file_sources(), *uppers, TreeSource(name="shm", root=scratch / "shm")]

    def reread(self, sources: list[TreeSource], mapped: frozenset[str]) -> list[TreeSource]:
        """*sources* with the files in *mapped* (absolute paths) marked to be read whatever their state."""
        marked = []
        for source in sources:
            root = str(source.root)
            inside = frozenset(path[len(root) + 1 :] for path in mapped if within(path, root))
            marked.append(replace(source, reread=inside) if inside else source)
        return marked


def _identity(path: Path) -> str:
    """Of a directory on its file system, and of that, over restarts of the machine."""
    return f"{os.statvfs(path).f_fsid:x}-{path.stat().st_ino:x}"


def _literal(path: str) -> str:
    """*path*, relative to the tree, as a glob that matches only itself."""
    return "/" + "".join(f"[{c}]" if c in "*?[" else c for c in path)
