"""Open the data that a recipe names: files, URLs, hub data sets, sources of plugins, earlier steps."""

from __future__ import annotations

import glob
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import fsspec
from pydantic import ValidationError

from aligner.data.context import DataContext
from aligner.data.options import DataSpec
from aligner.data.reading.contents import Content, hash_chunks, suffixes
from aligner.data.reading.readers import READABLE, read_rows
from aligner.data.reading.step_datasets import read_step_rows, step_dataset_hash
from aligner.data.reading.tables import RawRow
from aligner.data.store.temporary_folder import temporary_folder
from aligner.errors import DataError, did_you_mean

SCHEMES = ("https", "s3", "gs", "gcs", "az", "abfs", "hf", "memory")
"""Schemes of URLs that are read, by fsspec; none of them runs code or reads local files."""


@dataclass(kw_only=True)
class OpenedRows:
    """Raw rows of a data set, and what identifies their content."""

    rows: Iterator[RawRow]
    hash: Callable[[], str]
    """Returns the SHA-256 of what has been read; complete after the last row."""
    known: Callable[[], str | None] = lambda: None
    """Returns what identifies the content before it is read; None if that is unknown."""
    names: tuple[str, ...] = ()
    """Names of the files in messages."""


def open_rows(spec: DataSpec, context: DataContext, option: str) -> OpenedRows:
    """Open the data that `spec` names.

    Raises:
        DataError: it is not there, or not readable.
    """
    if spec.path is not None:
        return _from_files(spec, context, option)
    digest = hashlib.sha256()
    known: Callable[[], str | None]
    if spec.step is not None:
        rows, known = (
            read_step_rows(spec.step, context, option),
            partial(step_dataset_hash, spec.step, context),
        )
    elif spec.source is not None:
        rows, known = (
            _from_source(spec, context, option),
            partial(_source_hash, spec, context, option),
        )
    else:
        rows, known = _from_hub(spec, context, option), partial(_hub_commit, spec)
    return OpenedRows(
        rows=_hash_rows(islice(rows, spec.first), digest), hash=digest.hexdigest, known=known
    )


def _source_hash(spec: DataSpec, context: DataContext, option: str) -> str:
    """Return the hash of the rows of a plugin's source, which are made once to compute it."""
    key = f"content {spec.source} {json.dumps(spec.options, default=str)} {spec.first}"
    if key not in context.memo:
        digest = hashlib.sha256()
        for _ in _hash_rows(islice(_from_source(spec, context, option), spec.first), digest):
            pass
        context.memo[key] = digest.hexdigest()
    return str(context.memo[key])


def _hub_commit(spec: DataSpec) -> str | None:
    """Return an identifier of the content of a hub data set; None unless its commit is given."""
    if spec.revision is None or not re.fullmatch("[0-9a-f]{40}", spec.revision):
        return None
    return f"{spec.hub} {spec.revision} {spec.subset} {spec.split}"


def _hash_rows(rows: Iterable[RawRow], digest: Any) -> Iterator[RawRow]:
    for origin, row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
        yield origin, row


def _from_source(spec: DataSpec, context: DataContext, option: str) -> Iterator[RawRow]:
    sources, name = context.registry.data_sources, str(spec.source)
    if name not in sources:
        hint = did_you_mean(name, sources)
        raise DataError(
            f"no plugin offers a data source {spec.source!r}", where=context.at(option), hint=hint
        )
    made = sources[name]
    try:
        config = made.Options(**spec.options)
    except ValidationError as error:
        first = error.errors()[0]
        given = ".".join(str(part) for part in first["loc"])
        known = (
            did_you_mean(given, made.Options.model_fields)
            if first["type"] == ("extra_forbidden")
            else first["msg"]
        )
        what = f"data source {spec.source!r}: option {given!r} is invalid"
        raise DataError(what, where=context.at(option), hint=known) from None
    for index, row in enumerate(made(config).rows()):
        yield f"{spec.source}[{index}]", dict(row)


def _from_hub(spec: DataSpec, context: DataContext, option: str) -> Iterator[RawRow]:
    import datasets  # a second to import, and only data on the hub needs it

    try:
        loaded = datasets.load_dataset(
            spec.hub, name=spec.subset, revision=spec.revision, split=spec.split, streaming=True
        )
        for index, row in enumerate(loaded):
            yield f"{spec.hub}[{index}]", dict(row)
    except Exception as error:  # the hub's clients raise whatever their transports do
        reason = str(error).strip().split("\n")[0][:300]
        what = f"the hub data set {spec.hub!r} cannot be read: {type(error).__name__}: {reason}"
        hint = "without a network, download it first and give the folder as `path`"
        raise DataError(what, where=context.at(option), hint=hint) from None


def _from_files(spec: DataSpec, context: DataContext, option: str) -> OpenedRows:
    files = _files(spec, context, option)
    remote = any("://" in path for _, path in files)
    if remote and spec.first is not None:
        # Of a large remote file only the beginning is downloaded.
        digest = hashlib.sha256()
        contents = [
            _open_with_errors(name, _remote, path, context.at(option)) for name, path in files
        ]
        rows = (row for content in contents for row in read_rows(content, spec))
        return OpenedRows(rows=_hash_rows(islice(rows, spec.first), digest), hash=digest.hexdigest)
    whole = hashlib.sha256()
    contents = []
    for name, path in files:
        content, digest_of_file = _open_with_errors(
            name, partial(_local_file, context), path, context.at(option)
        )
        whole.update(digest_of_file)
        contents.append(content)
    rows = (row for content in contents for row in read_rows(content, spec))
    return OpenedRows(
        rows=islice(rows, spec.first),
        hash=whole.hexdigest,
        known=whole.hexdigest,
        names=tuple(name for name, _ in files),
    )


def _open_with_errors(name: str, open_it: Callable[[str, str], Any], path: str, where: str) -> Any:
    try:
        return open_it(name, path)
    except Exception as error:  # file systems of fsspec raise any error of their clients
        reason = error.strerror if isinstance(error, OSError) else None
        reason = reason or f"{type(error).__name__}: {str(error).strip().split(chr(10))[0][:200]}"
        raise DataError(f"cannot read {name}: {reason}", where=where) from None


def _remote(name: str, url: str) -> Content:
    opened = partial(fsspec.open, url, "rb")
    opened().open().close()  # so that a missing file is reported here
    return Content(name, lambda: cast("BinaryIO", opened().open()))


def _local_file(context: DataContext, name: str, path: str) -> tuple[Content, bytes]:
    """Return a local file and the hash of its bytes; a remote file is downloaded once."""
    local = Path(path)
    # `://` only remains where the scheme was checked: fsspec must not find one in a local path.
    if "://" in path:
        local = temporary_folder(context.memo) / hashlib.sha256(path.encode()).hexdigest()
        if not local.exists():
            part = local.with_suffix(".part")
            with fsspec.open(path, "rb") as far, part.open("wb") as near:
                shutil.copyfileobj(far, near, 1 << 20)
            part.rename(local)
    about = local.stat()
    key = f"content {local} {about.st_size} {about.st_mtime_ns}"
    if key not in context.memo:
        with local.open("rb") as file:
            context.memo[key] = hash_chunks(iter(partial(file.read, 1 << 20), b""))
    return Content(name, lambda: local.open("rb"), local), context.memo[key]


def _files(spec: DataSpec, context: DataContext, option: str) -> list[tuple[str, str]]:
    """Return the files of `spec.path`: the name of each in messages, and its path or URL."""
    where, path = context.at(option), str(spec.path)
    if "://" in path or path.startswith("file:"):
        return [(path, _check_url(path, where))]
    full = (context.recipe_folder / Path(path).expanduser()).resolve()
    if full.is_dir():
        return _in_folder(full, spec, where)
    if full.is_file():
        return [(path, str(full))]
    if glob.has_magic(path):
        found = sorted(glob.glob(str(full), recursive=True))
        files = [
            (_display_path(Path(name), context), name) for name in found if Path(name).is_file()
        ]
        if files:
            return files
        raise DataError(f"no file matches {path!r}", where=where, hint=f"looked in {full.parent}")
    raise _missing_error(full, path, where)


def _missing_error(full: Path, path: str, where: str) -> DataError:
    beside = [file.name for file in full.parent.iterdir()] if full.parent.is_dir() else []
    hint = did_you_mean(full.name, beside) if beside else f"there is no folder {full.parent}"
    if len(beside) > 20 and hint.startswith("known:"):
        hint = f"{full.parent} has {len(beside)} other files"
    return DataError(f"no file or folder {path!r}", where=where, hint=hint)


def _check_url(url: str, where: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or "::" in url:
        hint = f"write a local path as it is; URLs may begin with {', '.join(SCHEMES[:-1])}"
        raise DataError(f"data is not read from {url!r}", where=where, hint=hint)
    host = parts.hostname or ""
    if parts.scheme == "https" and (host.startswith("169.254.") or host.startswith("fe80:")):
        raise DataError(f"data is not read from the link-local address {host!r}", where=where)
    return url


def _in_folder(folder: Path, spec: DataSpec, where: str) -> list[tuple[str, str]]:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return _saved_files(folder, spec, where)
    inside = sorted(file for file in folder.rglob("*") if file.is_file() and _is_data(file, folder))
    kinds: dict[str, list[Path]] = {}
    for file in inside:
        kinds.setdefault(suffixes(file.name)[0], []).append(file)
    if not kinds:
        hint = f"readable: {', '.join('.' + kind for kind in sorted(READABLE))}"
        raise DataError(f"the folder {spec.path!r} has no data files", where=where, hint=hint)
    if len(kinds) > 1:
        counts = ", ".join(f"{len(files)} .{kind}" for kind, files in sorted(kinds.items()))
        hint = f"give a glob, such as '{spec.path}/*.{sorted(kinds)[0]}'"
        what = f"the folder {spec.path!r} has files of several formats ({counts})"
        raise DataError(what, where=where, hint=hint)
    return [(f"{spec.path}/{file.relative_to(folder)}", str(file)) for file in inside]


def _display_path(file: Path, context: DataContext) -> str:
    folder = context.recipe_folder.resolve()
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def _is_data(file: Path, folder: Path) -> bool:
    about = file.name.upper().startswith(("README", "LICENSE", "LICENCE"))
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not about and not hidden and suffixes(file.name)[0] in READABLE


def _saved_files(folder: Path, spec: DataSpec, where: str) -> list[tuple[str, str]]:
    """Return the Arrow files in a folder that `datasets.save_to_disk` wrote."""
    if (folder / "dataset_dict.json").is_file():
        splits: list[str] = _read_json(folder / "dataset_dict.json", where).get("splits", [])
        if spec.split not in splits:
            hint = did_you_mean(spec.split, splits)
            raise DataError(f"{spec.path!r} has no split {spec.split!r}", where=where, hint=hint)
        folder = folder / spec.split
    files = _read_json(folder / "state.json", where).get("_data_files") or []
    # Names only: the manifest may not point outside its folder.
    paths = [folder / Path(str(file.get("filename"))).name for file in files]
    return [(path.name, str(path)) for path in paths]


def _read_json(path: Path, where: str) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path.name}: {error}", where=where) from None
    return content if isinstance(content, dict) else {}
