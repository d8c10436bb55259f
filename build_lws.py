"""Builds the binding: what C declares for Python, and which libwebsockets stands behind it.

CMake runs this file; nothing else knows where libwebsockets comes from.

    python build_lws.py locate OUT_DIR --cache CACHE_DIR   decide, and tell CMake (lws.cmake)
    python build_lws.py source DEST [--cache CACHE_DIR]    put the patched source tree in DEST
    python build_lws.py emit OUT.c                         write the cffi module uvws._core

The environment decides which libwebsockets:

    (nothing)            the source of Debian 13, with Debian's patches and then ours
    UVWS_LWS_SOURCE=     the same from a tarball or a source tree of yours
    UVWS_SYSTEM_LWS=1    the system's library, as pkg-config finds it
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import filecmp
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent
API_HEADER = ROOT / "csrc" / "api.h"
OUR_PATCHES = ROOT / "csrc" / "lws-patches"

MODULE = "uvws._core"
MINIMUM = (4, 3, 5)
CALLBACKS_BEGIN = "/* --- callbacks into Python: begin --- */"
CALLBACKS_END = "/* --- callbacks into Python: end --- */"

PACKAGE = "libwebsockets"
UPSTREAM_SHA256 = "87f99ad32803ed325fceac5327aae1f5c1b417d54ee61ad36cffc8df5f5ab276"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITE = "trixie"
SECURITY_SUITE = "trixie-security"

OTHER_WAYS = (
    "Set UVWS_LWS_SOURCE to a libwebsockets 4.3.5 tarball or source tree, "
    "or UVWS_SYSTEM_LWS=1 to use an installed libwebsockets 4.3.5 or later."
)


class BuildError(Exception):
    """What stops the build, in words that say how to mend it."""


# --- Declarations -----------------------------------------------------------------------------


def strip_preprocessor(text: str) -> str:
    """Leaves of a C header what cffi can read: declarations and plain numeric macros."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
    text = text.replace("\\\n", " ")
    number = re.compile(r"\s*#\s*define\s+\w+\s+-?(0[xX][0-9a-fA-F]+|\d+)[uUlL]*\s*$")
    lines = (
        line
        for line in text.splitlines()
        if not line.lstrip().startswith("#") or number.match(line)
    )
    return "\n".join(line.rstrip() for line in lines if line.strip()) + "\n"


def split_header(text: str) -> tuple[str, str]:
    """Returns the declarations that C implements and those that Python does."""
    before, begin, rest = text.partition(CALLBACKS_BEGIN)
    callbacks, end, after = rest.partition(CALLBACKS_END)
    if not begin or not end:
        raise BuildError(
            f"the header lacks the lines {CALLBACKS_BEGIN!r} and {CALLBACKS_END!r} "
            "around the callbacks into Python; put them back."
        )
    return strip_preprocessor(before + after), strip_preprocessor(callbacks)


def emit(out: Path, header: Path = API_HEADER) -> None:
    """Writes the C source of the out-of-line module."""
    try:
        from cffi import FFI
    except ImportError:
        raise BuildError(
            f"{sys.executable} has no cffi, which writes the binding; run: pip install 'cffi>=1.17'"
        ) from None
    declarations, callbacks = split_header(header.read_text())
    ffi = FFI()
    ffi.cdef(declarations)
    # "+C" because the C core calls these by name, from other files than the generated one.
    ffi.cdef(f'extern "Python+C" {{\n{callbacks}}}\n')
    ffi.set_source(MODULE, f'#include "{header.name}"')
    ffi.emit_c_code(str(out))
    # cffi leaves an unchanged file alone; ninja wants to see it renewed.
    out.touch()


# --- Small tools ------------------------------------------------------------------------------


def run(
    command: Sequence[str], *, cwd: Path | None = None, stdin: bytes | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command quietly; a missing program counts as one that failed."""
    # Messages are matched and shown: keep them in one language.
    env = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, cwd=cwd, input=stdin or b"", capture_output=True, env=env, check=False
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: {error.strerror}")
    return subprocess.CompletedProcess(
        command,
        done.returncode,
        done.stdout.decode(errors="replace"),
        done.stderr.decode(errors="replace"),
    )


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def parse_version(text: str) -> tuple[int, ...]:
    """Reads the leading numbers of a version: '4.3.5-1' is (4, 3, 5)."""
    match = re.match(r"\d+(\.\d+)*", text.strip())
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def unpack(archive: Path, dest: Path) -> Path:
    """Unpacks a tar archive and returns its single top directory."""
    try:
        with tarfile.open(archive) as tar:
            # The filter came to Python in 3.11.4; the archives are checked by hash or signature.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            tar.extractall(dest)
    except (OSError, tarfile.TarError) as error:
        raise BuildError(f"cannot unpack {archive}: {error}. {OTHER_WAYS}") from None
    tops = [path for path in dest.iterdir() if path.is_dir()]
    if len(tops) != 1:
        raise BuildError(f"{archive} is not a source tarball: it has {len(tops)} top directories.")
    return tops[0]


def mirror_tree(source: Path, dest: Path) -> None:
    """Makes dest equal to source, touching only what differs, so that rebuilds are short."""
    dest.mkdir(parents=True, exist_ok=True)
    wanted = {path.name for path in source.iterdir()}
    for path in dest.iterdir():
        if path.name not in wanted:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in source.iterdir():
        target = dest / path.name
        if path.is_symlink():
            target.unlink(missing_ok=True)
            target.symlink_to(path.readlink())
        elif path.is_dir():
            mirror_tree(path, target)
        elif not target.is_file() or not filecmp.cmp(path, target, shallow=False):
            # Without the old time stamp: make and ninja must see a new file.
            shutil.copyfile(path, target)
            shutil.copymode(path, target)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps two builds that share a cache out of each other's way."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# --- The source package of Debian -------------------------------------------------------------


@dataclass
class Sources:
    """Where the pieces of a libwebsockets source are."""

    upstream: Path
    debian: Path | None = None

    def fingerprint(self) -> str:
        """Changes when anything does that goes into the tree."""
        digest = hashlib.sha256()
        for path in (self.upstream, self.debian):
            if path is None:
                continue
            if path.is_file():
                digest.update(sha256(path).encode())
            else:
                for item in sorted(path.rglob("*")):
                    stat = item.lstat()
                    digest.update(f"{item} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        for patch in our_patches():
            digest.update(f"{patch.name} {sha256(patch)}\n".encode())
        digest.update(sha256(Path(__file__)).encode())
        return digest.hexdigest()


def mirrors() -> list[str]:
    """Returns the deb-src lines for Debian 13, on the mirrors that this machine uses."""
    # Unlike "indextargets" this needs no lists, which a fresh machine may not have fetched yet.
    planned = run(["apt-get", "update", "--print-uris"])
    found = re.findall(r"^'(\S+/)dists/(\S+)/InRelease'", planned.stdout, re.MULTILINE)
    if not found:
        raise BuildError(
            f"the libwebsockets source comes through apt-get, which has no mirror to offer here "
            f"({last_line(planned.stderr) or 'no package source configured'}). {OTHER_WAYS}"
        )
    if not KEYRING.is_file():
        raise BuildError(
            f"{KEYRING} is missing, and with it the check of the libwebsockets source's "
            f"signature; run: apt-get install debian-archive-keyring. {OTHER_WAYS}"
        )
    main: set[str] = set()
    security: set[str] = set()
    for uri, suite in found:
        (security if "-security" in suite else main).add(uri)
    if not security:
        # A machine without security updates; a mirror of Debian has them beside the rest.
        security = {re.sub(r"/debian/?$", "/debian-security/", uri) for uri in main}
    return [
        f"deb-src [signed-by={KEYRING}] {uri} {suite} main"
        for uris, suite in ((main, SUITE), (security, SECURITY_SUITE))
        for uri in sorted(uris)
    ]


def last_line(text: str) -> str:
    """Returns the last line that says something, for use inside a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


class PrivateApt:
    """apt with lists and a cache of its own: the system's are neither read nor changed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.complaint = ""
        for name in ("lists/partial", "cache/archives/partial"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        source_list = directory / "sources.list"
        source_list.write_text("".join(f"{line}\n" for line in mirrors()))
        options = {
            "Dir::Etc::SourceList": str(source_list),
            "Dir::Etc::SourceParts": "-",
            "Dir::Etc::Preferences": "-",
            "Dir::Etc::PreferencesParts": "-",
            "Dir::State::Lists": str(directory / "lists"),
            "Dir::Cache": str(directory / "cache"),
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "30",
            "Acquire::https::Timeout": "30",
        }
        self.command = ["apt-get", "-q"]
        for name, value in options.items():
            self.command += ["-o", f"{name}={value}"]

    def fetch(self, part: str, pattern: str) -> Path:
        """Downloads one part of the source package and returns the file."""
        # The first try takes the newest version there is. Either suite may lack one of the
        # files for a while after an update, so each is then asked by itself.
        said = self.complaint
        for target in (PACKAGE, f"{PACKAGE}/{SECURITY_SUITE}", f"{PACKAGE}/{SUITE}"):
            got = run(
                [*self.command, "source", "--download-only", part, target], cwd=self.directory
            )
            files = sorted(self.directory.glob(pattern))
            if got.returncode == 0 and files:
                return files[-1]
            said = said or last_line(got.stderr)
        raise BuildError(
            f"the libwebsockets source of Debian 13 could not be fetched through apt-get "
            f"({said or 'no reason given'}). Check the network and try again. {OTHER_WAYS}"
        )

    def update(self) -> None:
        """Fetches the lists. One suite may fail: what matters is whether the parts come."""
        said = run([*self.command, "update"]).stderr.strip()
        self.complaint = said.partition("\n")[0]


def check_upstream(tarball: Path) -> None:
    """Refuses an upstream tarball other than the one that this version was written for."""
    found = sha256(tarball)
    if found != UPSTREAM_SHA256:
        tarball.unlink()
        raise BuildError(
            f"{tarball.name} as downloaded has the SHA-256 {found}, not the expected "
            f"{UPSTREAM_SHA256}. It has been deleted. Try again. {OTHER_WAYS}"
        )


def fetch_sources(downloads: Path) -> Sources:
    """Downloads the source package, unless an earlier build did."""
    upstream = downloads / f"{PACKAGE}_4.3.5.orig.tar.gz"
    debian = next(iter(sorted(downloads.glob(f"{PACKAGE}_4.3.5-*.debian.tar.*"))), None)
    if not upstream.is_file() or debian is None:
        downloads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=downloads) as scratch:
            apt = PrivateApt(Path(scratch))
            apt.update()
            tarball = apt.fetch("--tar-only", f"{PACKAGE}_*.orig.tar.gz")
            check_upstream(tarball)
            diff = apt.fetch("--diff-only", f"{PACKAGE}_*.debian.tar.*")
            debian = downloads / diff.name
            diff.rename(debian)
            tarball.rename(upstream)
    check_upstream(upstream)
    return Sources(upstream, debian)


def given_sources(path: Path) -> Sources:
    """Takes the source that UVWS_LWS_SOURCE names, and Debian's part if it lies beside it."""
    if path.is_dir():
        if not (path / "lib" / "core").is_dir():
            raise BuildError(
                f"UVWS_LWS_SOURCE={path} is not a libwebsockets source tree; "
                "name the directory that has its CMakeLists.txt, or a tarball."
            )
        return Sources(path)
    if not path.is_file():
        raise BuildError(f"UVWS_LWS_SOURCE={path} does not exist; name a tarball or a tree.")
    beside = sorted(path.parent.glob(f"{PACKAGE}_*.debian.tar.*"))
    return Sources(path, beside[-1] if beside else None)


# --- Patches ----------------------------------------------------------------------------------


@dataclass
class Applied:
    """What a source tree is made of; kept in the tree and compiled into the module."""

    version: str
    origin: str
    debian: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)


def our_patches() -> list[Path]:
    """Returns our patches in the order in which they apply."""
    return sorted(OUR_PATCHES.glob("*.patch"))


def series(debian: Path) -> list[Path]:
    """Returns Debian's patches in the order in which they apply."""
    listing = debian / "patches" / "series"
    if not listing.is_file():
        return []
    names = (line.partition("#")[0].strip() for line in listing.read_text().splitlines())
    # A line may carry options behind the name; -p1 is the only one in use, and ours too.
    return [debian / "patches" / name.split()[0] for name in names if name]


def apply_patch(tree: Path, patch: Path) -> None:
    """Applies one patch, unless the tree already has it."""
    command = ["patch", "-p1", "--batch", "--silent", "--no-backup-if-mismatch", "-r", "-"]
    text = patch.read_bytes()
    if run([*command, "--forward", "--dry-run"], cwd=tree, stdin=text).returncode == 0:
        run([*command, "--forward"], cwd=tree, stdin=text)
        return
    done = run([*command, "--reverse", "--force", "--dry-run"], cwd=tree, stdin=text)
    if done.returncode == 127:
        raise BuildError("the program 'patch' is missing; run: apt-get install patch")
    if done.returncode != 0:
        raise BuildError(
            f"{patch.name} does not apply to this libwebsockets {tree_version(tree)}; "
            "use the source of 4.3.5, or UVWS_SYSTEM_LWS=1 to do without our patches."
        )


def tree_version(tree: Path) -> str:
    """Reads the version out of a source tree."""
    text = (tree / "CMakeLists.txt").read_text(errors="replace")
    parts = re.findall(r'set\(CPACK_PACKAGE_VERSION_(?:MAJOR|MINOR|PATCH_NUMBER) "(\d+)', text)
    return ".".join(parts)


def check_version(found: str, where: str) -> None:
    """Refuses a libwebsockets without the features that uvws stands on."""
    if parse_version(found) < MINIMUM:
        raise BuildError(
            f"{where} is libwebsockets {found or 'of an unknown version'}; uvws needs "
            f"{'.'.join(map(str, MINIMUM))} or later (event_lib_custom). Upgrade it, or unset "
            "UVWS_SYSTEM_LWS and UVWS_LWS_SOURCE to build the bundled one."
        )


def prepare(sources: Sources, scratch: Path) -> tuple[Path, Applied]:
    """Unpacks into scratch and applies the patches."""
    if sources.upstream.is_dir():
        tree = scratch / "tree"
        shutil.copytree(
            sources.upstream, tree, symlinks=True, ignore=shutil.ignore_patterns(".git", ".pc")
        )
    else:
        tree = unpack(sources.upstream, scratch / "upstream")
    version = tree_version(tree)
    check_version(version, str(sources.upstream))

    debian = tree / "debian"
    origin = version
    if sources.debian is not None:
        debian = unpack(sources.debian, scratch / "debian")
        origin = sources.debian.name.split("_")[1].partition(".debian.")[0]
    applied = Applied(version, origin)
    for patch in series(debian):
        apply_patch(tree, patch)
        applied.debian.append(patch.name)
    for patch in our_patches():
        apply_patch(tree, patch)
        applied.ours.append(patch.name)
    return tree, applied


def source(dest: Path, cache: Path) -> Applied:
    """Puts the patched source tree in dest, and returns what it is made of."""
    record = dest / "uvws-source.json"
    with locked(cache):
        given = os.environ.get("UVWS_LWS_SOURCE")
        if given:
            sources = given_sources(Path(given).expanduser().resolve())
        else:
            sources = fetch_sources(cache / "downloads")
        fingerprint = sources.fingerprint()
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            known = json.loads(record.read_text())
            if known["fingerprint"] == fingerprint:
                return Applied(**known["applied"])
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            tree, applied = prepare(sources, Path(scratch))
            # Renewed last, so that an interrupted run is taken up again.
            record.unlink(missing_ok=True)
            mirror_tree(tree, dest)
        record.write_text(
            json.dumps({"fingerprint": fingerprint, "applied": applied.__dict__}, indent=2) + "\n"
        )
        return applied


# --- The system's library ---------------------------------------------------------------------


@dataclass
class System:
    """How to compile and link against the system's libwebsockets."""

    version: str
    cflags: list[str]
    libs: list[str]


def system_library() -> System:
    """Asks pkg-config for the system's libwebsockets, and refuses one that is too old."""
    tool = os.environ.get("PKG_CONFIG") or "pkg-config"
    asked = run([tool, "--modversion", PACKAGE])
    if asked.returncode == 127:
        raise BuildError(
            f"UVWS_SYSTEM_LWS=1 needs the program '{tool}', which is missing; run: "
            "apt-get install pkg-config, or unset UVWS_SYSTEM_LWS to build the bundled "
            "libwebsockets."
        )
    if asked.returncode != 0:
        raise BuildError(
            f"UVWS_SYSTEM_LWS=1, but {tool} finds no libwebsockets; install its development "
            "package (apt-get install libwebsockets-dev), or unset UVWS_SYSTEM_LWS to build "
            "the bundled libwebsockets."
        )
    version = asked.stdout.strip()
    check_version(version, "UVWS_SYSTEM_LWS=1, but the system's library")
    return System(
        version,
        shlex.split(run([tool, "--cflags", PACKAGE]).stdout),
        shlex.split(run([tool, "--libs", PACKAGE]).stdout),
    )


# --- For CMake --------------------------------------------------------------------------------


def write_if_changed(path: Path, text: str) -> None:
    """Writes a generated file without causing a rebuild when it stays the same."""
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)


def c_header(version: str, origin: str, patches: Sequence[str]) -> str:
    """Returns the header through which the module knows what it was built with."""
    return (
        "/* Generated by build_lws.py. */\n"
        f'#define UVWS_LWS_BUILT_VERSION "{version}"\n'
        f'#define UVWS_LWS_ORIGIN "{origin}"\n'
        f'#define UVWS_LWS_PATCHES "{" ".join(patches)}"\n'
    )


def cmake_list(values: Sequence[str]) -> str:
    """Quotes values as arguments of a CMake command."""
    return " ".join(f"[==[{value}]==]" for value in values)


def locate(out: Path, cache: Path) -> None:
    """Decides which libwebsockets to use; leaves lws.cmake and uvws_build.h in out."""
    out.mkdir(parents=True, exist_ok=True)
    if os.environ.get("UVWS_SYSTEM_LWS", "0") not in ("", "0"):
        system = system_library()
        header = c_header(system.version, "system", [])
        cmake = (
            "set(UVWS_BUNDLED_LWS OFF)\n"
            f"set(UVWS_LWS_CFLAGS {cmake_list(system.cflags)})\n"
            f"set(UVWS_LWS_LIBS {cmake_list(system.libs)})\n"
        )
    else:
        tree = cache / "source"
        applied = source(tree, cache)
        patches = [f"debian/{name}" for name in applied.debian]
        patches += [f"uvws/{name}" for name in applied.ours]
        header = c_header(applied.version, applied.origin, patches)
        cmake = f"set(UVWS_BUNDLED_LWS ON)\nset(UVWS_LWS_TREE {cmake_list([str(tree)])})\n"
    write_if_changed(out / "uvws_build.h", header)
    write_if_changed(out / "lws.cmake", cmake)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of the commands; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    cache = ROOT / "build" / "lws"
    for name in ("locate", "source"):
        command = commands.add_parser(name)
        command.add_argument("out", type=Path)
        command.add_argument("--cache", type=Path, default=cache)
    commands.add_parser("emit").add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "emit":
            emit(options.out)
        elif options.command == "source":
            source(options.out.resolve(), options.cache.resolve())
        else:
            locate(options.out.resolve(), options.cache.resolve())
    except BuildError as error:
        print(f"uvws: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
