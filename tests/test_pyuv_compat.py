"""`python -m uvws pyuv-cflags` and the header that it points to."""

from __future__ import annotations

import ctypes
import importlib.resources
import pathlib
import shlex
import shutil
import subprocess
import sys
import sysconfig

import pytest

from uvws import __main__ as commands

INCLUDE = sysconfig.get_path("include")
CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

needs_compiler = pytest.mark.skipif(
    CC is None or not pathlib.Path(INCLUDE, "Python.h").exists(),
    reason="needs a C compiler and the headers of this Python",
)

# What pyuv does with the things that the header brings back.
USES = r"""
#include "structmember.h"

Py_ssize_t set_refcount(PyObject *object, Py_ssize_t by)
{
    Py_ssize_t old = Py_REFCNT(object);
    Py_REFCNT(object) = old + by;
    return old;
}

PyObject *encode(PyObject *str)
{
    return PyUnicode_EncodeUTF8(PyUnicode_AS_UNICODE(str), PyUnicode_GET_SIZE(str),
                                "surrogateescape");
}

void threads(void)
{
    PyEval_InitThreads();
}

void *allocate(size_t size)
{
    return PyMem_Malloc(size);
}

void release(void *block)
{
    PyMem_Free(block);
}
"""


def run_command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m uvws`."""
    command = [sys.executable, "-m", "uvws", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def compile_uses(source: str, directory: pathlib.Path) -> pathlib.Path:
    """Compile C source with the printed flags into a shared object; return its path."""
    assert CC is not None
    (directory / "uses.c").write_text(source)
    library = directory / "uses.so"
    flags = shlex.split(commands.pyuv_cflags())
    command = [CC, "-Wall", "-Werror=implicit-function-declaration", *flags, f"-I{INCLUDE}"]
    command += [f"-I{pathlib.Path(flags[-1]).parent}"]
    command += ["-shared", "-fPIC", "-o", str(library), str(directory / "uses.c")]
    if sys.platform == "darwin":
        command += ["-undefined", "dynamic_lookup"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


# ---------------------------------------------------------------- the command


def test_the_command_prints_flags_that_include_a_header_that_exists() -> None:
    done = run_command("pyuv-cflags")
    assert (done.returncode, done.stderr) == (0, "")
    *_, option, header = shlex.split(done.stdout)
    assert option == "-include"
    assert pathlib.Path(header).is_absolute()
    assert pathlib.Path(header).is_file()


def test_the_flags_keep_optimisation_which_setuptools_would_drop() -> None:
    assert "-O2" in shlex.split(commands.pyuv_cflags())


def test_the_flags_survive_a_path_with_spaces(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    place = tmp_path / "a 'b' c"
    monkeypatch.setattr(commands, "__file__", str(place / "__main__.py"))
    assert shlex.split(commands.pyuv_cflags())[-1] == str(place / "pyuv_compat.h")


@pytest.mark.parametrize("words", [[], ["pyuv"], ["pyuv-cflags", "more"], ["--nonsense"]])
def test_other_words_print_the_usage_and_exit_with_2(words: list[str]) -> None:
    done = run_command(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m uvws pyuv-cflags")


def test_help_is_no_error() -> None:
    done = run_command("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


# ---------------------------------------------------------------- the header


def test_the_header_is_shipped_as_a_resource_of_the_package() -> None:
    header = importlib.resources.files("uvws") / "pyuv_compat.h"
    assert "UVWS_PYUV_COMPAT_H" in header.read_text(encoding="utf-8")


@needs_compiler
def test_the_header_compiles_when_included_by_name(tmp_path: pathlib.Path) -> None:
    compile_uses('#include "pyuv_compat.h"\n' + USES, tmp_path)


@needs_compiler
def test_what_pyuv_needs_works_with_the_header_forced_in(tmp_path: pathlib.Path) -> None:
    library = ctypes.PyDLL(str(compile_uses(USES, tmp_path)))
    library.encode.argtypes = [ctypes.py_object]
    library.encode.restype = ctypes.py_object
    library.set_refcount.argtypes = [ctypes.py_object, ctypes.c_ssize_t]
    library.set_refcount.restype = ctypes.c_ssize_t
    target = object()
    before = sys.getrefcount(target)
    library.set_refcount(target, 3)
    assert sys.getrefcount(target) == before + 3
    library.set_refcount(target, -3)
    assert sys.getrefcount(target) == before
    assert library.encode("h\xe9\udc80") == b"h\xc3\xa9\x80"
    library.threads()


@needs_compiler
def test_memory_can_be_had_and_freed_without_the_gil(tmp_path: pathlib.Path) -> None:
    # CDLL, not PyDLL: it releases the GIL, as pyuv does where it frees its abstract socket request.
    library = ctypes.CDLL(str(compile_uses(USES, tmp_path)))
    library.allocate.argtypes = [ctypes.c_size_t]
    library.allocate.restype = ctypes.c_void_p
    library.release.argtypes = [ctypes.c_void_p]
    block = library.allocate(64)
    assert block
    library.release(block)
