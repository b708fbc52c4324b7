"""Finding a C++ compiler, and keeping what it made: one shared library a kernel, in a folder of the user's.

A library is found by what it was made from: the SHA-256 of source, compiler, options and processor. Its
file name also carries the digest of its own bytes, so a file that was cut short or changed is never loaded
but built again; two processes building the same kernel each rename a finished file into place.

Code is loaded from this folder, so nobody else may write there: it must belong to the user, and be closed to
group and others. A folder that is not so is refused, and a fresh private one serves for this process.

    MINIGRAD_CACHE, else XDG_CACHE_HOME/minigrad, else ~/.cache/minigrad
    (macOS ~/Library/Caches/minigrad, Windows %LOCALAPPDATA%\\minigrad)
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kernels import machines

# The bits NumPy would give: no contraction into fused multiply-adds, no reordering, never -ffast-math.
# Signed integers wrap, as NumPy's do.
OPTIONS = (
    "-O3 -std=c++17 -shared -fPIC -fno-math-errno -fno-trapping-math -ffp-contract=off -fwrapv -w".split()
)
# What a compiler may not know: tried in this order. macOS clang has no OpenMP; -fopenmp-simd is its smaller
# half.
_THREADS: tuple[list[str], ...] = (["-fopenmp"], ["-fopenmp-simd"], [])
_NATIVE: tuple[list[str], ...] = (["-march=native"], [])

_PROBE = 'extern "C" int probe() { return 42; }\n'


class Unavailable(Exception):
    """Nothing can be compiled here, or not this: the message says why."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler that was seen to work, with the options it understands."""

    command: tuple[str, ...]
    options: tuple[str, ...]
    identity: str

    def __str__(self) -> str:
        return " ".join([*self.command, *self.options])


@functools.cache
def _folder(wanted: str) -> Path:
    path = Path(wanted)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if reason := _open_to_others(path):
            raise PermissionError(reason)
        with tempfile.TemporaryFile(dir=path):
            pass
        return path
    except OSError as error:
        machines.note(
            f"the kernel cache {wanted} is not used: {error}; kernels are compiled anew by every process"
        )
    try:
        private = Path(tempfile.mkdtemp(prefix="minigrad-"))
    except OSError as error:
        raise Unavailable(f"there is no folder to compile in: {error}") from None
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    return private


def folder() -> Path:
    """The folder that holds the libraries; raises Unavailable when there is none that is safe to use."""
    return _folder(_wanted_folder())


def _wanted_folder() -> str:
    if chosen := os.environ.get("MINIGRAD_CACHE"):
        return str(Path(chosen).expanduser().absolute())
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(base) / "minigrad")


def _open_to_others(path: Path) -> str | None:
    """Why a file or folder could have been written by somebody else, or None."""
    if not hasattr(os, "geteuid"):
        return None  # Windows: the profile folder is the user's own
    for info in (path.lstat(), path.stat()):  # a link must be the user's, and so must what it points to
        if info.st_uid != os.geteuid():
            return f"it belongs to user {info.st_uid}, not to this process's user {os.geteuid()}"
        if not stat.S_ISLNK(info.st_mode) and info.st_mode & 0o022:
            return f"others may write to it (mode {stat.S_IMODE(info.st_mode):o}); chmod go-w cures it"
    return None


def _processor() -> str:
    """What -march=native depends on."""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
        lines = re.findall(r"^(?:model name|flags|Features|CPU part)\s*:.*$", text, re.MULTILINE)
        return "\n".join(sorted(set(lines)))
    return platform.processor() + platform.machine()


def _identity(program: str) -> str:
    """A compiler is the same while its file is: path, size and time of change."""
    path = os.path.realpath(program)
    info = os.stat(path)
    return f"{path} {info.st_size} {info.st_mtime_ns}"


@functools.cache
def _toolchain(chosen: str, path: str) -> Toolchain | Unavailable:
    candidates = [shlex.split(chosen)] if chosen else [["c++"], ["g++"], ["clang++"]]
    reason = f"no C++ compiler is found (looked for {', '.join(c[0] for c in candidates if c)})"
    for command in candidates:
        program = shutil.which(command[0], path=path) if command else None
        if program is None:
            continue
        for threads in _THREADS:
            for native in _NATIVE:
                options = (*OPTIONS, *threads, *native)
                identity = f"{_identity(program)} {_processor() if native else platform.machine()}"
                tools = Toolchain((program, *command[1:]), options, identity)
                try:
                    if Library("probe", _PROBE, tools).load().probe() == 42:
                        return tools
                except Unavailable as error:
                    reason = f"{command[0]} does not work: {error}"
    return Unavailable(reason)


def toolchain() -> Toolchain:
    """The compiler of this computer; found once a process. Raises Unavailable, saying what was tried."""
    folder()
    found = _toolchain(os.environ.get("CXX", ""), os.environ.get("PATH", ""))
    if isinstance(found, Unavailable):
        raise found
    return found


class Library:
    """A source on its way to being loaded."""

    def __init__(self, name: str, source: str, tools: Toolchain) -> None:
        self.source, self.tools, self.folder = source, tools, folder()
        unlined = re.sub(
            r"(?m)^#line .*$", "", source
        )  # a text that only moved in its file is the same kernel
        made_from = "\0".join([unlined, *tools.command, *tools.options, tools.identity])
        self.stem = (
            f"{re.sub('[^a-z0-9_]', '_', name.lower())}-{hashlib.sha256(made_from.encode()).hexdigest()[:32]}"
        )

    def load(self) -> ctypes.CDLL:
        """The library, from the cache if it is there and whole, else built. Raises Unavailable."""
        # OpenMP's idle threads spin by default, which on shared cores costs more than it saves.
        os.environ.setdefault("GOMP_SPINCOUNT", "0")
        for path in self.folder.glob(f"{self.stem}-*.so"):
            if self._whole(path):
                with contextlib.suppress(OSError):
                    return ctypes.CDLL(str(path))
            with contextlib.suppress(OSError):
                path.unlink()
        try:
            return ctypes.CDLL(str(self._build()))
        except OSError as error:
            raise Unavailable(str(error)) from None

    def _whole(self, path: Path) -> bool:
        try:
            return not _open_to_others(path) and path.stem == f"{self.stem}-{_digest(path.read_bytes())}"
        except OSError:
            return False

    def _build(self) -> Path:
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="build-") as room:
            source, made = Path(room, "kernel.cpp"), Path(room, "kernel.so")
            source.write_text(self.source, encoding="utf-8")
            command = [*self.tools.command, *self.tools.options, "-o", str(made), str(source)]
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", cwd=room, check=False
            )
            if done.returncode != 0 or not made.exists():
                raise Unavailable(_first_error(done.stderr, done.returncode))
            made.chmod(0o700)
            path = self.folder / f"{self.stem}-{_digest(made.read_bytes())}.so"
            os.replace(made, path)
            return path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _first_error(output: str, code: int) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next(
        (line for line in lines if "error" in line), lines[0] if lines else f"it ended with status {code}"
    )


_failed: dict[str, str] = {}  # what could not be built in this process is not tried again


def build(name: str, source: str) -> ctypes.CDLL:
    """The source as a loaded library. Raises Unavailable with the compiler's first error line."""
    library = Library(name, source, toolchain())
    if library.stem in _failed:
        raise Unavailable(_failed[library.stem])
    try:
        return library.load()
    except Unavailable as error:
        _failed[library.stem] = str(error)
        raise


def forget() -> None:
    """Look for compiler and folder again, and try failed kernels again (for tests)."""
    _folder.cache_clear()
    _toolchain.cache_clear()
    _failed.clear()
