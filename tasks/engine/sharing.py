"""What a team shares: a profile's outputs, sent to DVC's remote and fetched from it.

An output is a list of files; DVC's cache and the remote hold the list and the files under the hashes of their contents. What the
other side lacks travels, lists after files: a transfer that is stopped leaves nothing that looks whole, and the next one goes on
where it ended. `dvc push` and `dvc pull` use the same layout; they know no profile, say no sizes, and fail as soon as one output of
any profile is not on the remote.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tasks.engine.access import address_of, answering
from tasks.engine.checkout import check_files
from tasks.engine.locks import reproducing
from tasks.engine.progress import progress, say
from tasks.engine.repository import clearly, locked, repository

Way = Literal["push", "pull"]
STUDIES = {"adaptation": "adapt", "ablation": "ablate"}  # data/PROFILE/NAME -> its command, where that has another name


@dataclass(frozen=True)
class Output:
    """A recorded output. step: what makes it, empty where no step does. files, bytes: what travels; for a pull the bytes are an
    upper bound. problem: why it does not arrive, empty where it does. do: how to mend that."""

    path: str
    step: str
    do: str
    files: int = 0
    bytes: int = 0
    problem: str = ""


@dataclass(frozen=True)
class _Part:
    """An output with DVC's object of it. files: the hash of each of its files; listing: that of their list, empty for a file
    alone. travels: those of both that travel."""

    out: Any
    output: Output
    files: tuple[str, ...] = ()
    listing: str = ""
    travels: frozenset[str] = frozenset()


def push(root: Path, profile: str, inputs: Collection[str] = (), *, dry_run: bool = False) -> tuple[Output, ...]:
    """Send the recorded outputs of a profile's steps and studies, and those of `inputs` (paths, such as the model's) that DVC
    keeps. A dry run only says what there is to send.

    Says the size, then the outputs that neither side has. Raises PsrError: no remote, a package that is missing, secrets in
    .dvc/config, or a remote that refuses, fails or is full; what arrived until then stays, and is not sent again.
    """
    return _share(root, profile, "push", inputs, dry_run)


def pull(root: Path, profile: str, inputs: Collection[str] = (), *, dry_run: bool = False) -> tuple[Output, ...]:
    """Fetch of the same outputs what this machine lacks, check the hashes, and put them in place.

    Says the size, then the outputs that are not whole on the remote, with the command that makes them. What was edited here stays
    as it is, and is named. Raises PsrError as `push` does.
    """
    return _share(root, profile, "pull", inputs, dry_run)


def _share(root: Path, profile: str, way: Way, inputs: Collection[str], dry_run: bool) -> tuple[Output, ...]:
    check_files(root)
    about = f"python -m flows.share {way} --profile {profile}"
    with (
        nullcontext() if dry_run else reproducing(root, about, wait=True, say=say),
        clearly(root),
        repository(root) as repo,
        locked(root, repo),
    ):
        address, cache = address_of(repo), repo.cache.local
        recorded = list(_recorded(repo, profile, inputs))
        with answering(repo, address):
            remote = repo.cloud.get_remote_odb()
            parts = _planned(recorded, way, cache, remote)
            say(_amount(profile, way, [part.output for part in parts], address))
            if not dry_run:
                _transfer(parts, way, cache, remote)
        if way == "pull" and not dry_run:
            parts = [_placed(part, cache, remote) for part in parts]
    outputs = tuple(part.output for part in parts)
    for line in _problems(outputs):
        say(line)
    return outputs


def _recorded(repo: Any, profile: str, inputs: Collection[str]) -> Iterator[_Part]:
    """The outputs of the profile, and of `inputs`, that a lock file or a .dvc file records."""
    for stage in repo.index.stages:
        step, _, of = (getattr(stage, "name", None) or "").partition("@")
        for out in (out for out in stage.outs if out.use_cache and out.hash_info):
            path = Path(out.fs_path).relative_to(repo.root_dir)
            if step and of == profile:
                yield _Part(
                    out, Output(path.as_posix(), step, f"To make it: `python -m flows.reproduce --profile {profile}`.")
                )
            elif not step and path.parts[:2] == ("data", profile):
                command = f"python -m flows.{STUDIES.get(path.name, path.name)} --profile {profile}"
                yield _Part(out, Output(path.as_posix(), "", f"To make it: `{command}`."))
            elif not step and any(path.is_relative_to(one) or Path(one).is_relative_to(path) for one in inputs):
                yield _Part(
                    out,
                    Output(
                        path.as_posix(), "", "Push it from where it is, or see whether `python -m flows.fetch` has it."
                    ),
                )


def _planned(parts: Sequence[_Part], way: Way, cache: Any, remote: Any) -> list[_Part]:
    """The parts with what travels. A file that several of them have is counted with the first."""
    parts = [_listed(part, cache, remote) for part in parts]
    every = {oid for part in parts for oid in _oids(part)}
    here = {oid: size for oid in every if (size := _intact(cache, oid)) is not None}
    asked = every if way == "push" else every - here.keys()
    there = set(remote.oids_exist(asked)) if asked else set()
    planned: list[_Part] = []
    counted: set[str] = set()
    for part in parts:
        travels = _oids(part) - (there if way == "push" else here.keys())
        lacking = travels - (here.keys() if way == "push" else there)
        output = part.output
        if lacking and not output.problem:
            sides = "neither here nor on the remote" if way == "push" else "not on the remote"
            output = replace(output, problem=sides if len(lacking) == len(_oids(part)) else f"partly {sides}")
        if not output.problem:
            files = travels - {part.listing} - counted
            counted |= files
            output = replace(output, files=len(files), bytes=_bytes(part, files, way, here))
        planned.append(replace(part, output=output, travels=frozenset() if output.problem else frozenset(travels)))
    return planned


def _listed(part: _Part, cache: Any, remote: Any) -> _Part:
    """The part with the hashes of its files, from its list here or on the remote."""
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.errors import ObjectFormatError

    info = part.out.hash_info
    if not info.isdir:
        return replace(part, files=(info.value,))
    for side in (cache, remote):
        try:
            files = tuple(str(entry.value) for _, _, entry in Tree.load(side, info) if entry)
            return replace(part, files=files, listing=info.value)
        except (FileNotFoundError, ObjectFormatError):
            continue
    return replace(part, listing=info.value)  # lacking on both sides, so that it is named


def _oids(part: _Part) -> set[str]:
    return {oid for oid in (*part.files, part.listing) if oid}


def _intact(cache: Any, oid: str) -> int | None:
    """The bytes of an object in DVC's cache; None where there is none, or it was changed since. DVC keeps hashes by time and size."""
    from dvc_data.hashfile.hash import hash_file

    try:
        meta, content = hash_file(cache.oid_to_path(oid), cache.fs, "md5", cache.state)
    except FileNotFoundError:
        return None
    return meta.size if str(content.value).removesuffix(".dir") == oid.removesuffix(".dir") else None


def _bytes(part: _Part, files: set[str], way: Way, here: Mapping[str, int]) -> int:
    """What its travelling files come to. The remote is not asked: dvc.lock has the size of the whole output."""
    if way == "push":
        return sum(here[oid] for oid in files)
    return max((part.out.meta.size or 0) - sum(here.get(oid, 0) for oid in part.files), 0) if files else 0


def _transfer(parts: Sequence[_Part], way: Way, cache: Any, remote: Any) -> None:
    """Files first, then the lists that say which files an output has."""
    from fsspec.callbacks import Callback

    source, target = (cache, remote) if way == "push" else (remote, cache)
    lists = sorted({part.listing for part in parts} & {oid for part in parts for oid in part.travels})
    files = sorted({oid for part in parts for oid in part.travels} - set(lists))
    for label, oids in ((f"{way}ed", files), (f"{way}ed, lists of files", lists)):
        with progress(label, len(oids), "files") as advance:
            callback = Callback(hooks={"bar": lambda size, value, advance=advance: advance(1) if value else None})
            if oids:
                paths = [source.oid_to_path(oid) for oid in oids]
                target.add(paths, source.fs, oids, check_exists=False, verify=way == "pull", callback=callback)


def _placed(part: _Part, cache: Any, remote: Any) -> _Part:
    """Put a fetched output in place, unless files are damaged or what lies there would be lost."""
    damaged = [oid for oid in sorted(part.travels) if not cache.exists(oid)]
    if damaged:
        named = ", ".join(remote.oid_to_path(oid) for oid in damaged[:3]) + (", …" if damaged[3:] else "")
        do = f"Delete there {named}, and push again from a machine that has it."
        return replace(part, output=replace(part.output, problem="damaged on the remote", do=do))
    if part.output.problem:
        return part
    if _unsaved(part.out, cache):
        problem, do = "edited here, and left as it is", "Delete it and pull again to have what is recorded."
        return replace(part, output=replace(part.output, problem=problem, do=do))
    part.out.checkout(force=True)
    return part


def _unsaved(out: Any, cache: Any) -> bool:
    """Whether something else lies in the output's place that DVC's cache does not have."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.tree import Tree

    if not out.exists or not out.changed_checksum():
        return False
    _, _, content = build(cache, out.fs_path, out.fs, "md5", ignore=out.dvcignore, dry_run=True)
    entries = [entry for _, _, entry in content] if isinstance(content, Tree) else [content.hash_info]
    return any(_intact(cache, str(entry.value)) is None for entry in entries if entry)


def _amount(profile: str, way: Way, outputs: Sequence[Output], address: str) -> str:
    if not outputs:
        return f"{profile}: no output is recorded, so there is nothing to {way}."
    whole = [one for one in outputs if not one.problem]
    files, size = sum(one.files for one in whole), sum(one.bytes for one in whole)
    if not files:
        return f"{profile}: {len(whole)} of {len(outputs)} outputs are {f'on {address}' if way == 'push' else 'here'} already."
    what = f"{files} files, {'' if way == 'push' else 'at most '}{size / 1e6:.1f} MB"
    moving = sum(1 for one in whole if one.files)
    return f"{profile}: {what} of {moving} of {len(outputs)} outputs to {way} {'to' if way == 'push' else 'from'} {address}"


def _problems(outputs: Sequence[Output]) -> list[str]:
    """A line for each problem with the outputs that have it."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for one in (one for one in outputs if one.problem):
        name = f"{one.path} (step {one.step})" if one.step else one.path
        grouped.setdefault((one.problem, one.do), []).append(name)
    return [f"{problem}: {', '.join(names)}. {do}" for (problem, do), names in grouped.items()]
