"""Commands of `python -m uvws`; they need neither the C core nor a loop.

`python -m uvws pyuv-cflags` prints the C compiler flags that build pyuv 1.4.0 on CPython 3.10 and
later, quoted for the shell:

    CFLAGS="$(python -m uvws pyuv-cflags)" pip install --no-binary pyuv pyuv==1.4.0
"""

from __future__ import annotations

import pathlib
import shlex
import sys

USAGE = """\
usage: python -m uvws pyuv-cflags

commands:
  pyuv-cflags   print the C compiler flags that build pyuv 1.4.0 on this Python
"""


def pyuv_cflags() -> str:
    """Return the flags for pyuv's build, quoted for the shell.

    Optimisation is among them because setuptools takes CFLAGS from the environment in place of
    Python's own flags, not in addition to them: without it libuv would be built unoptimised.
    """
    header = pathlib.Path(__file__).resolve().with_name("pyuv_compat.h")
    return f"-O2 -DNDEBUG -include {shlex.quote(str(header))}"


def main(arguments: list[str]) -> int:
    """Run one command.

    Args:
        arguments: the command line without the program's name.

    Returns:
        The exit code: 0, or 2 for a command line that is not understood.
    """
    if arguments == ["pyuv-cflags"]:
        print(pyuv_cflags())
        return 0
    if arguments in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    print(USAGE, end="", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
