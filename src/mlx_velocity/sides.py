"""The two sides of a comparison: from what a user names to environments that are ready."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import git
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mlx_velocity import declared, environments, history
from mlx_velocity.environments import Prepared
from mlx_velocity.errors import InputError
from mlx_velocity.history import Commit
from mlx_velocity.tracks import Track

WORKING_TREE = "."
CONTROL_MLX = "0.32.4"
"""The reference that the control's probe runs on. It stays while the measured versions change."""


@dataclass(frozen=True)
class Target:
    """What one side is, before its environment is made."""

    name: str
    """As the user named it."""
    commit: Commit | None
    """None for a working tree."""
    versions: dict[str, str]
    """Package → version that replaces what the commit pins."""
    left_from: str = ""
    """The branch, where the commit is the one at which the head left it."""

    @property
    def subject(self) -> str:
        """What a reader sees beside the name."""
        if self.versions:
            return ", ".join(f"{package} {version}" for package, version in self.versions.items())
        if self.left_from and self.commit:
            return f"where the head left it, {self.commit.short}: {self.commit.subject}"
        return self.commit.subject if self.commit else "working tree"


def resolve(track: Track, repo_path: str, base: str, head: str, merge_base: bool) -> tuple[Target, Target]:
    """What both names stand for; `merge_base` takes the base from where the head left it.

    Versions (`mlx==0.31.2`, several with commas) replace pins of the other side's commit; where both
    sides are versions, of the older of the two releases, so that only what was named differs.
    Raises InputError where a name stands for nothing.
    """
    given = [_versions(name) for name in (base, head)]
    commits: list[Commit | None] = [None, None]
    for index, name in enumerate((base, head)):
        if name == WORKING_TREE:
            _packages(track, repo_path)
        elif not given[index]:
            commits[index] = history.one(repo_path, name)
    if merge_base:
        if any(given):
            raise InputError("versions have no merge base", "name two commits, or leave --merge-base out")
        head_name = "HEAD" if head == WORKING_TREE else head
        commits[0] = history.merge_base(repo_path, base, head_name)
    found = []
    for index, name in enumerate((base, head)):
        commit = commits[index]
        if given[index]:
            commit = commits[1 - index] or _reference(track, repo_path, [item for item in given if item])
        found.append(Target(name, commit, given[index], base if merge_base and index == 0 else ""))
    return found[0], found[1]


def prepare(
    track: Track, repo_path: str, target: Target, say: Callable[[str], None] = lambda _: None
) -> Prepared:
    """The environment of a side; raises EnvironmentFailure where it can't be had."""
    if target.commit is None:
        with history.open_git(repo_path) as repo:
            head = repo.head.commit.hexsha
            root = Path(str(repo.working_tree_dir))
        pins = environments.pins_of(track, repo_path, head)
        own = declared.of_folder(root, track.settings.overlay)
        return environments.assemble(track, pins, _copy_of_working_tree(track, repo_path), say, own)
    if not target.versions:
        return environments.prepare(track, repo_path, target.commit.hash, say)
    pins = [
        pin
        for pin in environments.pins_of(track, repo_path, target.commit.hash)
        if canonicalize_name(Requirement(pin).name) not in target.versions
    ]
    pins += [f"{package}=={version}" for package, version in target.versions.items()]
    named = [package for package in track.settings.overlay if canonicalize_name(package) in target.versions]
    if named and len(named) < len(track.settings.overlay):
        raise InputError("some of the track's packages are named as versions, others not", "name all or none")
    if not track.settings.requirements and not track.settings.overlay:
        raise InputError(
            f"track {track.name} builds its commits, and versions replace what is built",
            "compare two commits",
        )
    # A named version is installed; the commit's tree would hide it.
    if named:
        return environments.assemble(track, pins, None, say)
    own = environments.declared_by(track, repo_path, target.commit.hash)
    overlay = environments.lay_over(track, repo_path, target.commit.hash)
    return environments.assemble(track, pins, overlay, say, own)


def control(track: Track, say: Callable[[str], None] = lambda _: None) -> Prepared:
    """The environment of the control: one fixed mlx; raises EnvironmentFailure where it can't be had."""
    prepared = environments.assemble(track, [f"mlx=={CONTROL_MLX}"], None, say)
    return Prepared(prepared.name, prepared.path, prepared.record, {"mlx.core": str(prepared.path)})


def same(base: Prepared, head: Prepared) -> bool:
    """Whether both sides would measure exactly the same code."""
    return base.path == head.path and _contents(base.overlay) == _contents(head.overlay)


def _contents(tree: Path | None) -> dict[str, bytes]:
    files = tree.rglob("*") if tree else []
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for path in files
        if tree and path.is_file() and "__pycache__" not in path.parts
    }


def _versions(name: str) -> dict[str, str]:
    if "==" not in name:
        return {}
    found: dict[str, str] = {}
    for part in name.split(","):
        try:
            wanted = Requirement(part.strip())
        except InvalidRequirement as error:
            raise InputError(f"'{part}' names no version", "write mlx==0.31.2 or mlx-lm==0.31.1") from error
        pins = [item.version for item in wanted.specifier if item.operator == "=="]
        if len(pins) != 1 or len(wanted.specifier) != 1 or pins[0].endswith("*") or wanted.url:
            raise InputError(f"'{part}' names no single version", "write mlx==0.31.2 or mlx-lm==0.31.1")
        found[canonicalize_name(wanted.name)] = pins[0]
    return found


def _reference(track: Track, repo_path: str, given: list[dict[str, str]]) -> Commit:
    """The commit whose pins stand around the named versions: the oldest release among them, or the newest commit."""
    commits = history.select(repo_path, "ALL", track.conf.branches, [])
    tags = {f"{package}-{version}" for item in given for package, version in item.items()}
    released = [commit for commit in commits if tags & set(commit.tags)]
    return (released or commits[:1])[-1]


def _packages(track: Track, repo_path: str) -> list[Path]:
    """The packages of a working tree; InputError where there is none to measure."""
    if not track.settings.overlay:
        raise InputError(
            f"track {track.name} has no working tree to measure",
            "compare commits or versions, or choose a track of your project with --track and --repo",
        )
    with history.open_git(repo_path) as repo:
        if repo.bare or repo.working_tree_dir is None:
            raise InputError(
                "'.' means a working tree, and the repository is a bare clone",
                "name your clone with --repo PATH",
            )
        root = Path(repo.working_tree_dir)
    missing = [name for name in track.settings.overlay if not (root / name).is_dir()]
    if missing:
        raise InputError(f"the working tree has no {', '.join(missing)}", "name its clone with --repo PATH")
    return [root / name for name in track.settings.overlay]


def _copy_of_working_tree(track: Track, repo_path: str) -> Path:
    """The tracked and the new files of the measured packages, as they are now: an edit later changes nothing."""
    names = [package.name for package in _packages(track, repo_path)]
    folder = track.work_dir / "trees" / track.name
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder))
    seen = hashlib.sha256()
    try:
        with git.Repo(repo_path) as repo:
            root = Path(str(repo.working_tree_dir))
            listed = repo.git.ls_files(
                "-z", "--cached", "--others", "--exclude-standard", "--", *names
            ).split("\0")
        for name in sorted(set(filter(None, listed))):
            source, copy = root / name, aside / name
            if not source.is_file():
                continue  # deleted and not committed
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            seen.update(name.encode("utf-8", "surrogateescape") + b"\0" + copy.read_bytes() + b"\0")
        tree = folder / f"worktree-{seen.hexdigest()[:16]}"
        if not tree.is_dir():
            aside.chmod(0o755)
            aside.rename(tree)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return tree
