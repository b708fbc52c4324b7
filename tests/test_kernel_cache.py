"""The compiler and its cache: every way they can fail ends in a working kernel and a stated reason."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kernels
from kernels import Elementwise, cache

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners and modes are POSIX's")


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty cache folder, and a process that has forgotten every compiler."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MINIGRAD_CACHE", str(folder))
    monkeypatch.delenv("MINIGRAD_KERNELS", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    cache.forget()
    with kernels.use(None):
        yield folder
    cache.forget()


def double(text="y = T(x) + T(x);"):
    """A new kernel each time, so that nothing is remembered of it."""
    return Elementwise("double", "S x", "S y", text)


def works(kernel):
    return kernel(np.arange(5, dtype=np.float32)).tolist() == [0, 2, 4, 6, 8]


def built(folder):
    return sorted(p.name for p in folder.glob("double-*.so"))


def test_a_kernel_is_built_once_and_found_again(fresh):
    assert works(double()) and kernels.machine() == "compiled"
    (name,) = built(fresh)
    before = (fresh / name).stat().st_mtime_ns
    assert works(double()) and built(fresh) == [name]
    assert (fresh / name).stat().st_mtime_ns == before


def test_another_text_type_or_compiler_option_is_another_file(fresh, monkeypatch):
    works(double())
    works(double("y = T(2) * T(x);"))
    double()(np.ones(3))
    assert len(built(fresh)) == 3
    monkeypatch.setenv("CXX", "c++ -DOTHER")
    cache.forget()
    works(double())
    assert len(built(fresh)) == 4


def test_where_a_text_stands_does_not_matter_to_the_cache(fresh):
    lines = []
    for above in (0, 50):
        code = "\n" * above + "kernel = Elementwise('double', 'S x', 'S y', 'y = T(x) + T(x);')"
        names = {"Elementwise": Elementwise, "__name__": "somewhere"}
        exec(compile(code, "somewhere.py", "exec"), names)
        lines.append(names["kernel"].line)
        assert works(names["kernel"])
    assert lines == [1, 51] and len(built(fresh)) == 1


@posix
def test_the_folder_is_made_private(fresh):
    works(double())
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "text"])
def test_a_damaged_library_is_built_again_and_never_loaded(fresh, damage):
    works(double())
    (name,) = built(fresh)
    path = fresh / name
    content = path.read_bytes()
    path.unlink()  # the loaded one stays mapped
    path.write_bytes(
        dict(
            cut=content[: len(content) // 2],
            empty=b"",
            changed=content[:5000] + b"\x90" + content[5001:],
            text=b"not a library",
        )[damage]
    )
    path.chmod(0o700)
    assert works(double())
    assert built(fresh) == [name] and path.read_bytes() == content
    assert "NumPy machine" not in kernels.why()


def test_without_a_compiler_numpy_serves_and_says_so(fresh, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert works(double()) and kernels.machine() == "numpy"
    assert "no C++ compiler is found (looked for c++, g++, clang++)" in kernels.why()
    assert not built(fresh)


def test_a_compiler_that_is_demanded_and_missing_is_an_error(fresh, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("MINIGRAD_KERNELS", "compiled")
    with pytest.raises(RuntimeError, match=r"kernels cannot be compiled here: no C.* compiler"):
        double()(np.ones(3, np.float32))


def fake_compiler(folder, script):
    folder.mkdir()
    program = folder / "c++"
    program.write_text(f"#!/bin/sh\necho called >> {folder}/calls\n{script}\n")
    program.chmod(0o755)
    return program


@posix
def test_a_compiler_that_fails_leaves_its_first_error_line(fresh, tmp_path, monkeypatch):
    program = fake_compiler(
        tmp_path / "bin", "echo 'warning: x' >&2; echo 'cc1plus: error: no disk' >&2; exit 1"
    )
    monkeypatch.setenv("CXX", str(program))
    assert works(double()) and kernels.machine() == "numpy"
    assert "does not work: cc1plus: error: no disk" in kernels.why()


@posix
def test_a_kernel_that_cannot_be_built_is_tried_once_and_runs_on_numpy(fresh, tmp_path, monkeypatch):
    import shutil

    real = shutil.which("c++")
    broken = "grep -q triple kernel.cpp && { echo 'kernel.cpp: error: broken' >&2; exit 1; }"
    script = f'{broken}\nexec {real} "$@"'
    program = fake_compiler(tmp_path / "bin", script)
    monkeypatch.setenv("CXX", str(program))
    assert works(double()) and kernels.machine() == "compiled"

    def triple():
        return Elementwise("triple", "S x", "S y", "T triple = T(3) * T(x); y = triple;")

    calls = tmp_path / "bin" / "calls"
    before = len(calls.read_text().split())
    assert triple()(np.ones(2, np.float32)).tolist() == [3, 3]
    assert triple()(np.ones(2, np.float32)).tolist() == [3, 3]
    assert len(calls.read_text().split()) == before + 1
    assert "kernel 'triple' runs on the NumPy machine: kernel.cpp: error: broken" in kernels.why()
    with kernels.use("compiled"), pytest.raises(RuntimeError, match=r"'triple' cannot be compiled: .*broken"):
        triple()(np.ones(2, np.float32))


@posix
def test_older_compilers_are_asked_for_less(fresh, tmp_path, monkeypatch):
    import shutil

    real = shutil.which("c++")
    unknown = 'echo "error: unknown $a" >&2; exit 1'
    refuse = f'for a in "$@"; do case $a in -fopenmp*|-march=native) {unknown};; esac; done'
    program = fake_compiler(tmp_path / "bin", f'{refuse}\nexec {real} "$@"')
    monkeypatch.setenv("CXX", str(program))
    assert works(double()) and kernels.machine() == "compiled"
    assert not {"-fopenmp", "-fopenmp-simd", "-march=native"} & set(cache.toolchain().options)


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_others_may_write_to_is_refused(fresh, mode):
    fresh.mkdir()
    fresh.chmod(mode)
    assert works(double()) and kernels.machine() == "compiled"
    assert (
        not built(fresh) and f"others may write to it (mode {mode:o}); chmod go-w cures it" in kernels.why()
    )
    private = cache.folder()
    assert private != fresh and stat.S_IMODE(private.stat().st_mode) == 0o700 and built(private)


@posix
def test_a_folder_of_somebody_else_is_refused(fresh, monkeypatch):
    fresh.mkdir(mode=0o700)
    owner = fresh.stat().st_uid
    made = []

    def other_than_owner():
        made.append(1)
        return owner + 1

    monkeypatch.setattr(os, "geteuid", other_than_owner)
    assert works(double())
    assert made and not built(fresh)
    assert f"belongs to user {owner}, not to this process's user {owner + 1}" in kernels.why()


@posix
def test_a_link_to_a_folder_others_may_write_to_is_refused(fresh, tmp_path):
    target = tmp_path / "open"
    target.mkdir()
    target.chmod(0o777)
    fresh.symlink_to(target)
    assert works(double())
    assert not built(target) and "others may write to it" in kernels.why()


@posix
def test_a_library_others_may_write_to_is_not_loaded(fresh):
    works(double())
    (name,) = built(fresh)
    (fresh / name).chmod(0o777)
    works(double())
    assert stat.S_IMODE((fresh / name).stat().st_mode) == 0o700  # built again


@posix
def test_a_folder_that_cannot_be_made_is_replaced_by_a_private_one(fresh, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "file" / "cache"))
    assert works(double()) and kernels.machine() == "compiled"
    assert "is not used" in kernels.why() and "compiled anew by every process" in kernels.why()


def test_where_no_folder_can_be_made_at_all_numpy_serves(fresh, tmp_path, monkeypatch):
    import tempfile

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "file" / "cache"))

    def refuse(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert works(double()) and kernels.machine() == "numpy"
    assert "there is no folder to compile in: no space left" in kernels.why()


def test_processes_that_build_the_same_kernel_at_once_all_succeed(fresh):
    code = """
import numpy as np, kernels
k = kernels.Elementwise("double", "S x", "S y", "y = T(x) + T(x);")
assert k(np.arange(5, dtype=np.float32)).tolist() == [0, 2, 4, 6, 8]
assert kernels.machine() == "compiled", kernels.why()
"""
    root = str(Path(kernels.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "MINIGRAD_CACHE": str(fresh)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert len({name.rsplit("-", 1)[0] for name in built(fresh)}) == 1
    assert not list(fresh.glob("build-*"))


def test_a_forked_process_uses_one_thread():
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    code = """
import os, warnings, numpy as np, kernels
warnings.simplefilter("ignore")
kernels.set_num_threads(2)
k = kernels.Elementwise("double", "S x", "S y", "y = T(x) + T(x);")
x = np.ones(2_000_000, np.float32)
k(x)
child = os.fork()
if child == 0:
    ok = kernels.get_num_threads() == 1 and (k(x) == 2).all()
    os._exit(0 if ok else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    root = str(Path(kernels.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": root},
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
