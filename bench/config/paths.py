"""Where the checkout lies, and paths that were typed: made absolute, and looked at where they can be."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.config.grammar import WordError
from results.durable import special_file
from results.words import nearest, suggestion

ROOT = Path(__file__).resolve().parents[2]


def absolute(path: str) -> Path:
    """A path of this machine, `~` included."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def existing(name: str, path: str, *, visible: bool) -> str:
    """An absolute path that exists: a folder or an archive of images for the key `data`, a file for any other.

    Args:
        name: of the key.
        path: as it was typed.
        visible: whether the file system of the run can be looked at from here; else the path may exist there alone.

    Raises:
        WordError: there is none; one line with the nearest that is there.
    """
    from resnet.data import ARCHIVES, is_archive  # late: most commands have no data

    found = absolute(path)
    try:
        there = os.stat(found) is not None
    except (FileNotFoundError, NotADirectoryError):
        there = False
    except (OSError, ValueError) as error:  # such as a folder on the way that may not be entered, or a NUL
        raise WordError(f"{name}={path}: {getattr(error, 'strerror', None) or error}") from None
    suits = found.is_dir() or is_archive(found) if name == "data" else found.is_file()
    if suits or (not visible and not there):
        return str(found)
    what = "folder" if name == "data" else "file"
    if there and name == "data":
        raise WordError(f"{name}={path}: not a {what} or an archive ({', '.join(ARCHIVES)}); nearest is {found.parent}")
    if there:
        is_one = special_file(os.stat(found).st_mode) or "a folder"
        near = _weights_in(found if found.is_dir() else found.parent, found)
        raise WordError(f"{name}={path}: {is_one}, not a {what}; {near}")
    if os.path.islink(found):
        raise WordError(f"{name}={path}: a link to {os.readlink(found)}, which is not there")
    missing = found
    while not missing.parent.is_dir():
        missing = missing.parent
    folder, rest = missing.parent, found.relative_to(missing)
    close = suggestion(missing.name, (place.name for place in _listed(folder) if _suits(name, place / rest)))
    if close:
        near = f"nearest is {folder / close / rest}"
    else:
        near = f"nearest is {folder}" if name == "data" else _weights_in(folder, found)
    raise WordError(f"{name}={path}: no such {what}; {near}")


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # whoever may enter a folder need not be allowed to list it
        return []


def _suits(name: str, place: Path) -> bool:
    """Whether something that is there can be offered for a key."""
    from resnet.data import is_archive  # late, as above

    try:
        if name == "data":
            return place.is_dir() or is_archive(place)
        # A pipe would be waited for, and what may not be read helps nobody.
        return place.suffix == ".safetensors" and place.is_file() and os.access(place, os.R_OK)
    except OSError:  # a link to itself, say
        return False


def _weights_in(folder: Path, wanted: Path) -> str:
    """Which file in a folder could be resumed from in place of another, in words."""
    found = nearest(wanted.name, [place.name for place in _listed(folder) if _suits("resume", place)])
    return (
        f"nearest is {folder / found}" if found else f"{folder} has no .safetensors file; a run's save=PATH writes one"
    )


@contextlib.contextmanager
def of_data(path: str) -> Iterator[None]:
    """Turn what is wrong with a dataset's folder into what is wrong with the word `data`.

    Args:
        path: of the folder or archive, absolute.

    Raises:
        WordError: one line that names the word, and what of the folder it is.
    """
    from resnet.data import DataError

    try:
        yield
    except DataError as error:
        text = str(error)
        inside = text.removeprefix(path)
        raise WordError(f"data={path}: {inside.lstrip('/: ') if inside != text else text}") from None


def check_folder(name: str, path: str, *, visible: bool = True) -> Path:
    """A folder that rows can be written to, made absolute; it need not be there yet.

    Args:
        name: of the key.
        path: as it was typed.
        visible: whether its file system can be looked at from here; else it is taken as it stands.

    Raises:
        WordError: one line that names the word and what stands in the way.
    """
    folder = absolute(path)
    if visible:
        _check_writable(name, path, folder)
    return folder


def check_temporary(*, named: bool = True) -> None:
    """See that there is a folder for temporary files, in which processes meet and libraries compile.

    Args:
        named: whether it must be the one that a variable names. A job inherits the variables of the shell that
            submitted it, and its node need not have that shell's folder.

    Raises:
        WordError: there is none, or another than was named; one line with the variable that names one.
    """
    try:
        used = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise WordError(f"{error.strerror}: TMPDIR=FOLDER, a variable, names another") from None
    # Python takes the first of these that can be written to, else a folder that nobody named, and says nothing.
    name = next((name for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)), None)
    if not named or name is None or os.path.abspath(given := os.environ[name]) == os.path.abspath(used):
        return
    what = "cannot be written to" if os.path.isdir(given) else "not a folder" if os.path.exists(given) else ""
    raise WordError(f"{name}={given}: {what or 'no such folder'}; nearest is {name}={used}")


def weights_file(path: str, *, visible: bool) -> str:
    """Where `save` writes weights, made absolute; arguments as of `check_folder`.

    Raises:
        WordError: not a .safetensors file, or none can be written there.
    """
    file = absolute(path)
    folder = _is_folder("save", path, file)
    if visible and (special := _special(file)):
        raise WordError(f"save={path}: {special}, and weights would take its place; name a file that need not be there")
    if file.suffix != ".safetensors" or folder:
        near = file / "weights.safetensors" if folder else file.with_suffix(".safetensors")
        raise WordError(f"save={path}: weights are written to a .safetensors file; nearest is save={near}")
    if visible:
        _check_writable("save", path, file.parent)
    return str(file)


def new_file(name: str, path: str) -> Path:
    """A file that can be written, made absolute; arguments as of `check_folder`.

    Raises:
        WordError: one line that names the word and what stands in the way.
    """
    file = absolute(path)
    if _is_folder(name, path, file):
        raise WordError(f"{name}={path}: is a folder; name a file in it")
    _check_writable(name, path, file.parent)
    return file


def _is_folder(name: str, path: str, file: Path) -> bool:
    """Whether there is a folder; a WordError where nothing can be, as under a name that is too long."""
    try:
        return stat.S_ISDIR(os.stat(file).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise WordError(f"{name}={path}: {getattr(error, 'strerror', None) or error}") from None


def _special(file: Path) -> str:
    """What else than a file or a folder has a name; empty where none has."""
    with contextlib.suppress(OSError):
        return special_file(os.stat(file).st_mode)
    return ""


def _check_writable(name: str, path: str, folder: Path) -> None:
    """See that a folder is there or can be made."""
    if path.startswith("~") and os.path.expanduser(path) == path:  # else a folder of that very name would be made
        raise WordError(f"{name}={path}: no such user as {path.partition('/')[0]}; nearest is {name}=./{path}")
    try:
        there = next(part for part in (folder, *folder.parents) if part.exists())
    except OSError as error:  # such as a name that is too long
        raise WordError(f"{name}={path}: {error.strerror}") from None
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)) or there.is_relative_to("/proc"):
        raise WordError(f"{name}={path}: {there} is not a folder that can be written to; {name}=PATH says where else")
