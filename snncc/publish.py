"""Gives what is finished its name, in one step, and never takes a name from anything of somebody else's.

Outputs are made under a private name beside their place. Whether that place is free is decided by the
step that takes it, so whatever came there meanwhile stays, and of several writers one wins.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)


def place_file(made: Path, path: Path) -> None:
    """Name the file ``made`` ``path`` as well; the caller removes its first name.

    Raises:
        FileExistsError: if something stands there.
    """
    try:
        os.link(made, path)
    except FileExistsError:
        raise
    except OSError:
        # Without hard links an empty file of ours takes the name first.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        os.replace(made, path)


def place_folder(made: Path, out: Path) -> None:
    """Rename the folder ``made`` to ``out``, where nothing or an empty folder may stand.

    Raises:
        FileExistsError: if anything else stands there: rename(2) puts a folder over nothing that holds
            something, nor over a file or link.
    """
    try:
        os.rename(made, out)
    except OSError as error:
        if error.errno in _TAKEN:
            raise _taken(out) from None
        raise


def replace_folder(made: Path, out: Path, ours: Callable[[Path], bool]) -> None:
    """Put the folder ``made`` in the place of ``out``, which is then called ``made``.

    What stood at ``out`` is looked at where nobody else puts anything, and goes back if it is not ours.

    Raises:
        FileExistsError: if ``ours`` refuses it.
    """
    _exchange(made, out)
    if not ours(made):
        _exchange(made, out)
        raise _taken(out)


def _taken(out: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))


def _exchange(a: Path, b: Path) -> None:
    """Each of two folders takes the other's name: at once where the file system can, else in three steps."""
    failure = _exchange_at_once(a, b)
    if failure in _UNSUPPORTED:
        _exchange_in_steps(a, b)
    elif failure:
        raise OSError(failure, os.strerror(failure), str(b))


def _exchange_at_once(a: Path, b: Path) -> int:
    """Error number of Linux' renameat2; ENOSYS on other systems."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return errno.ENOSYS
    failed = libc.renameat2(_HERE, os.fsencode(a), _HERE, os.fsencode(b), _EXCHANGE)
    return ctypes.get_errno() if failed else 0


def _exchange_in_steps(a: Path, b: Path) -> None:
    aside = a.with_name(f"{a.name}.old")
    os.rename(b, aside)
    try:
        place_folder(a, b)
    except OSError:
        place_folder(aside, b)
        raise
    os.rename(aside, a)
