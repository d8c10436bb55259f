"""The build: what the extension shows and needs, and what the builder says when it cannot go on."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

import uvws

ROOT = Path(__file__).resolve().parent.parent
BUILDER = ROOT / "build_lws.py"

pytestmark = pytest.mark.skipif(not BUILDER.is_file(), reason="not in a source tree")


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The builder as a module, knowing no choice of the environment and no patch of ours."""
    for name in ("UVWS_SYSTEM_LWS", "UVWS_LWS_SOURCE", "PKG_CONFIG", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location("build_lws", BUILDER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "build_lws", module)
    spec.loader.exec_module(module)
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    patches = tmp_path / "our-patches"
    patches.mkdir()
    monkeypatch.setattr(module, "KEYRING", keyring)
    monkeypatch.setattr(module, "OUR_PATCHES", patches)
    return module


FakeProgram = Callable[[str, str], Path]


@pytest.fixture
def fake_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeProgram:
    """Puts a shell script of a given name before everything else in PATH."""
    directory = tmp_path / "bin"

    def make(name: str, script: str) -> Path:
        directory.mkdir(exist_ok=True)
        program = directory / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
        return program

    return make


def output_of(*command: str) -> str:
    # A tool of the system, not the subject of a run under a sanitizer.
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return done.stdout


def extension() -> str:
    spec = importlib.util.find_spec("uvws._core")
    assert spec is not None
    assert spec.origin is not None
    return spec.origin


# --- The extension ------------------------------------------------------------------------------


def test_extension_is_abi3() -> None:
    assert extension().endswith("/_core.abi3.so")


def test_extension_needs_no_libuv() -> None:
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", output_of("readelf", "-d", extension()))
    assert any(name.startswith("libssl.") for name in needed)
    assert not [name for name in needed if name.startswith("libuv")]


def test_extension_exports_nothing_but_its_entry() -> None:
    exported = output_of("nm", "-D", "--defined-only", extension())
    assert [line.split()[-1] for line in exported.splitlines()] == ["PyInit__core"]


def test_extension_keeps_the_paths_of_the_build_to_itself() -> None:
    if os.environ.get("UVWS_SANITIZE"):
        pytest.skip("debug information has paths")
    assert str(ROOT).encode() not in Path(extension()).read_bytes()


def test_version_is_that_of_the_distribution() -> None:
    assert uvws.__version__ == importlib.metadata.version("uvws")


# --- Declarations -------------------------------------------------------------------------------


HEADER = """\
/* A header
 * #define NOT_THIS 1 */
#ifndef GUARD_H
#define GUARD_H
#include <stdint.h>
#define DECIMAL 42 /* why */
#define NEGATIVE -1
  # define HEX 0x2AuL // why
#define TEXT "text"
#define FUNCTION(x) \\
    ((x) + 1)
int before(void); // #define NOR_THIS 2
/* --- callbacks into Python: begin --- */
#define INSIDE 3
int callback(int a,
             int b);
/* --- callbacks into Python: end --- */
int after(void);
#endif
"""


def test_header_is_split(builder: ModuleType) -> None:
    declarations, callbacks = builder.split_header(HEADER)
    assert [line.strip() for line in declarations.splitlines()] == [
        "#define DECIMAL 42",
        "#define NEGATIVE -1",
        "# define HEX 0x2AuL",
        "int before(void);",
        "int after(void);",
    ]
    assert " ".join(callbacks.split()) == "#define INSIDE 3 int callback(int a, int b);"


@pytest.mark.parametrize("mark", ["begin", "end"])
def test_header_without_a_mark_is_refused(builder: ModuleType, mark: str) -> None:
    with pytest.raises(builder.BuildError, match="callbacks into Python"):
        builder.split_header(HEADER.replace(f"{mark} ---", "---"))


def test_emit_writes_the_module(builder: ModuleType, tmp_path: Path) -> None:
    header = tmp_path / "some.h"
    header.write_text(HEADER)
    builder.emit(tmp_path / "out.c", header)
    generated = (tmp_path / "out.c").read_text()
    assert '#include "some.h"' in generated
    assert "PyInit__core" in generated
    # Not static: the other C files call it.
    assert re.search(r"^(CFFI_DLLEXPORT )?int callback\(int a0, int a1\)", generated, re.MULTILINE)


def test_emit_without_cffi(
    builder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cffi", None)
    with pytest.raises(builder.BuildError, match="pip install 'cffi"):
        builder.emit(tmp_path / "out.c")


# --- The system's library -----------------------------------------------------------------------


def locate(builder: ModuleType, tmp_path: Path) -> str:
    builder.locate(tmp_path / "out", tmp_path / "cache")
    return (tmp_path / "out" / "lws.cmake").read_text()


@pytest.fixture
def system_lws(monkeypatch: pytest.MonkeyPatch, builder: ModuleType) -> None:
    monkeypatch.setenv("UVWS_SYSTEM_LWS", "1")


PKG_CONFIG = """
case $1 in
--modversion) echo {version} ;;
--cflags) echo "-I/opt/with\\ space -DX" ;;
--libs) echo -lwebsockets ;;
esac
"""


@pytest.mark.usefixtures("system_lws")
@pytest.mark.parametrize("version", ["4.3.5", "4.3.5-1", "4.5", "5.0.0"])
def test_system_library(
    builder: ModuleType, tmp_path: Path, fake_program: FakeProgram, version: str
) -> None:
    fake_program("pkg-config", PKG_CONFIG.format(version=version))
    cmake = locate(builder, tmp_path)
    assert "set(UVWS_BUNDLED_LWS OFF)" in cmake
    assert "set(UVWS_LWS_CFLAGS [==[-I/opt/with space]==] [==[-DX]==])" in cmake
    assert "set(UVWS_LWS_LIBS [==[-lwebsockets]==])" in cmake
    assert f'"{version}"' in (tmp_path / "out" / "uvws_build.h").read_text()


@pytest.mark.usefixtures("system_lws")
@pytest.mark.parametrize("version", ["4.1.6", "4.3.4", "4.3", "4", ""])
def test_system_library_too_old(
    builder: ModuleType, tmp_path: Path, fake_program: FakeProgram, version: str
) -> None:
    fake_program("pkg-config", PKG_CONFIG.format(version=version))
    with pytest.raises(builder.BuildError) as caught:
        locate(builder, tmp_path)
    message = str(caught.value)
    assert f"libwebsockets {version or 'of an unknown version'};" in message
    assert "4.3.5 or later" in message
    assert "unset" in message


@pytest.mark.usefixtures("system_lws")
@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="needs pkg-config")
def test_system_library_too_old_by_the_real_pkg_config(
    builder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "libwebsockets.pc").write_text(
        "Name: libwebsockets\nDescription: x\nVersion: 4.1.6\n"
    )
    monkeypatch.setenv("PKG_CONFIG_PATH", str(tmp_path))
    with pytest.raises(builder.BuildError, match=re.escape("libwebsockets 4.1.6; uvws needs")):
        locate(builder, tmp_path)


@pytest.mark.usefixtures("system_lws")
def test_system_library_missing(
    builder: ModuleType, tmp_path: Path, fake_program: FakeProgram
) -> None:
    fake_program("pkg-config", "exit 1")
    with pytest.raises(builder.BuildError, match=r"finds no libwebsockets.*libwebsockets-dev"):
        locate(builder, tmp_path)


@pytest.mark.usefixtures("system_lws")
def test_pkg_config_missing(
    builder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PKG_CONFIG", str(tmp_path / "no-such-program"))
    with pytest.raises(builder.BuildError, match=r"missing.*apt-get install pkg-config"):
        locate(builder, tmp_path)


# --- Fetching -----------------------------------------------------------------------------------


APT_GET = """
case $* in
*--print-uris*)
    echo "'mirror:/debian/dists/bookworm/InRelease' bookworm_InRelease 0"
    echo "'mirror:/debian/dists/bookworm/main/binary-amd64/Packages.xz' bookworm_main 0"
    echo "'mirror:/security/dists/bookworm-security/InRelease' security_InRelease 0"
    ;;
*) {otherwise} ;;
esac
"""


def test_source_lines_follow_the_machine(builder: ModuleType, fake_program: FakeProgram) -> None:
    fake_program("apt-get", APT_GET.format(otherwise="exit 100"))
    signed = f"deb-src [signed-by={builder.KEYRING}]"
    assert builder.mirrors() == [
        f"{signed} mirror:/debian/ trixie main",
        f"{signed} mirror:/security/ trixie-security main",
    ]


def test_source_lines_without_security_updates(
    builder: ModuleType, fake_program: FakeProgram
) -> None:
    fake_program("apt-get", """echo "'mirror:/debian/dists/bookworm/InRelease' x 0" """)
    assert [line.split()[2:4] for line in builder.mirrors()] == [
        ["mirror:/debian/", "trixie"],
        ["mirror:/debian-security/", "trixie-security"],
    ]


def test_no_apt(builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(builder.BuildError, match=r"no mirror to offer.*UVWS_LWS_SOURCE"):
        builder.source(tmp_path / "dest", tmp_path / "cache")


def test_no_keyring(builder: ModuleType, fake_program: FakeProgram, tmp_path: Path) -> None:
    fake_program("apt-get", APT_GET.format(otherwise="exit 100"))
    builder.KEYRING.unlink()
    with pytest.raises(builder.BuildError, match="apt-get install debian-archive-keyring"):
        builder.source(tmp_path / "dest", tmp_path / "cache")


def test_source_unreachable(builder: ModuleType, fake_program: FakeProgram, tmp_path: Path) -> None:
    script = "echo 'E: Could not resolve the mirror' >&2; exit 100"
    fake_program("apt-get", APT_GET.format(otherwise=script))
    with pytest.raises(builder.BuildError) as caught:
        builder.source(tmp_path / "dest", tmp_path / "cache")
    message = str(caught.value)
    assert "could not be fetched" in message
    assert "E: Could not resolve the mirror" in message
    assert "UVWS_LWS_SOURCE" in message


def test_source_with_another_hash(
    builder: ModuleType,
    fake_program: FakeProgram,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = "echo other >libwebsockets_4.3.5.orig.tar.gz"
    fake_program("apt-get", APT_GET.format(otherwise=script))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(builder.BuildError, match=r"SHA-256.*not the expected"):
        builder.source(tmp_path / "dest", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.tar.gz"))


def test_each_suite_is_tried_for_each_part(
    builder: ModuleType,
    fake_program: FakeProgram,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One suite lacks the upstream tarball, the other Debian's part."""
    script = """
    case $* in
    *--tar-only*/trixie) cp "$UPSTREAM" . ;;
    *--diff-only*/trixie-security) cp "$DEBIAN" . ;;
    *) echo "404  Not Found" >&2; exit 100 ;;
    esac"""
    fake_program("apt-get", APT_GET.format(otherwise=script))
    upstream, debian = source_package(tmp_path / "mirror")
    monkeypatch.setenv("UPSTREAM", str(upstream))
    monkeypatch.setenv("DEBIAN", str(debian))
    monkeypatch.setattr(builder, "UPSTREAM_SHA256", builder.sha256(upstream))
    applied = builder.source(tmp_path / "dest", tmp_path / "cache")
    assert applied.origin == "4.3.5-1+deb13u3"
    assert applied.debian == ["first.patch"]

    # What is there is not fetched again.
    fake_program("apt-get", "exit 100")
    assert builder.source(tmp_path / "dest2", tmp_path / "cache") == applied


def test_command_line_ends_with_one_line(tmp_path: Path) -> None:
    env = {**os.environ, "UVWS_LWS_SOURCE": str(tmp_path / "nothing"), "UVWS_SYSTEM_LWS": ""}
    command = [sys.executable, str(BUILDER), "locate", str(tmp_path), "--cache", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(
        r"uvws: UVWS_LWS_SOURCE=\S+ does not exist; name a tarball or a tree\.\n", done.stderr
    )


# --- Source trees and patches -------------------------------------------------------------------


def make_patch(old: str, new: str, *, name: str = "file.c") -> str:
    return f"Why.\n--- a/lib/core/{name}\n+++ b/lib/core/{name}\n@@ -1 +1 @@\n-{old}\n+{new}\n"


def make_tree(tree: Path, *, version: str = "4.3.5") -> Path:
    major, minor, patch = version.split(".")
    core = tree / "lib" / "core"
    core.mkdir(parents=True)
    (core / "file.c").write_text("original\n")
    (core / "other.c").write_text("original\n")
    (tree / "CMakeLists.txt").write_text(
        f'set(CPACK_PACKAGE_VERSION_MAJOR "{major}")\n'
        f'set(CPACK_PACKAGE_VERSION_MINOR "{minor}")\n'
        f'set(CPACK_PACKAGE_VERSION_PATCH_NUMBER "{patch}")\n'
    )
    return tree


def make_debian(debian: Path) -> None:
    (debian / "patches").mkdir(parents=True)
    (debian / "patches" / "series").write_text("# comment\n\nfirst.patch # why\n")
    (debian / "patches" / "first.patch").write_text(make_patch("original", "debian"))


def pack(archive: Path, top: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(top, arcname=top.name)
    return archive


def source_package(directory: Path) -> tuple[Path, Path]:
    """Makes an upstream tarball and Debian's part beside it."""
    tree = make_tree(directory / "libwebsockets-4.3.5")
    make_debian(directory / "debian")
    return (
        pack(directory / "libwebsockets_4.3.5.orig.tar.gz", tree),
        pack(directory / "libwebsockets_4.3.5-1+deb13u3.debian.tar.gz", directory / "debian"),
    )


def take(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: Path
) -> tuple[str, Sequence[str], Sequence[str]]:
    """Prepares the given source; returns the patched file and which patches are in it."""
    monkeypatch.setenv("UVWS_LWS_SOURCE", str(given))
    dest = tmp_path / "dest"
    applied = builder.source(dest, tmp_path / "cache")
    recorded = json.loads((dest / "uvws-source.json").read_text())["applied"]
    assert recorded == applied.__dict__
    return (dest / "lib" / "core" / "file.c").read_text(), applied.debian, applied.ours


def test_plain_tarball_gets_our_patches(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (builder.OUR_PATCHES / "02.patch").write_text(make_patch("one", "two"))
    (builder.OUR_PATCHES / "01.patch").write_text(make_patch("original", "one"))
    upstream, debian = source_package(tmp_path / "given")
    debian.unlink()
    taken = take(builder, monkeypatch, tmp_path, upstream)
    assert taken == ("two\n", [], ["01.patch", "02.patch"])


def test_tarball_with_the_part_of_debian_beside_it(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (builder.OUR_PATCHES / "01.patch").write_text(make_patch("debian", "ours"))
    upstream, _ = source_package(tmp_path / "given")
    taken = take(builder, monkeypatch, tmp_path, upstream)
    assert taken == ("ours\n", ["first.patch"], ["01.patch"])


@pytest.mark.parametrize("content", ["original\n", "debian\n"], ids=["plain", "patched"])
def test_tree_from_debian(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    """A tree may have Debian's patches in it already, and is left as it was."""
    (builder.OUR_PATCHES / "01.patch").write_text(make_patch("debian", "ours"))
    tree = make_tree(tmp_path / "given")
    make_debian(tree / "debian")
    (tree / "lib" / "core" / "file.c").write_text(content)
    taken = take(builder, monkeypatch, tmp_path, tree)
    assert taken == ("ours\n", ["first.patch"], ["01.patch"])
    assert (tree / "lib" / "core" / "file.c").read_text() == content


def test_patch_that_does_not_apply(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (builder.OUR_PATCHES / "01.patch").write_text(make_patch("something else", "ours"))
    tree = make_tree(tmp_path / "given", version="4.5.0")
    with pytest.raises(builder.BuildError, match=r"01\.patch does not apply.*4\.5\.0"):
        take(builder, monkeypatch, tmp_path, tree)
    assert not (tmp_path / "dest" / "uvws-source.json").exists()


def test_missing_patch_program(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (builder.OUR_PATCHES / "01.patch").write_text(make_patch("original", "ours"))
    tree = make_tree(tmp_path / "given")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(builder.BuildError, match="apt-get install patch"):
        take(builder, monkeypatch, tmp_path, tree)


def test_second_run_changes_only_what_differs(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else the smallest change to a patch would compile all of libwebsockets again."""
    patch = builder.OUR_PATCHES / "01.patch"
    patch.write_text(make_patch("original", "one"))
    tree = make_tree(tmp_path / "given")
    take(builder, monkeypatch, tmp_path, tree)
    dest = tmp_path / "dest"
    old = 1_000_000_000
    for path in dest.rglob("*"):
        os.utime(path, (old, old))

    def renewed() -> set[str]:
        files = (path for path in dest.rglob("*") if path.is_file())
        return {path.name for path in files if path.stat().st_mtime != old}

    take(builder, monkeypatch, tmp_path, tree)
    assert renewed() == set()
    patch.write_text(make_patch("original", "two"))
    assert take(builder, monkeypatch, tmp_path, tree)[0] == "two\n"
    assert renewed() == {"file.c", "uvws-source.json"}


def test_files_that_are_gone_are_removed(builder: ModuleType, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    dest = make_tree(tmp_path / "dest")
    (dest / "gone").mkdir()
    (dest / "gone" / "file").touch()
    (dest / "gone.c").touch()
    (tree / "link").symlink_to("CMakeLists.txt")
    builder.mirror_tree(tree, dest)
    assert {path.name for path in dest.iterdir()} == {"CMakeLists.txt", "lib", "link"}
    assert (dest / "link").is_symlink()


def test_too_old_source(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "given", version="4.1.6")
    with pytest.raises(builder.BuildError, match=r"4\.1\.6; uvws needs 4\.3\.5 or later"):
        take(builder, monkeypatch, tmp_path, tree)


def test_directory_that_is_no_source(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(builder.BuildError, match="not a libwebsockets source tree"):
        take(builder, monkeypatch, tmp_path, tmp_path)


def test_file_that_is_no_tarball(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(io.DEFAULT_BUFFER_SIZE * b"x")
    with pytest.raises(builder.BuildError, match="cannot unpack"):
        take(builder, monkeypatch, tmp_path, file)
