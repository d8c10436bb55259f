"""Which objects are loops, and how the loop behind them is found."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from typing import Any

import pytest

import uvws
from support import Recorder, Runner, echo, loop_kinds, url_of
from support.libuv import uv_loop_of
from support.programs import run_program


def _address_found(loop: Any) -> int:
    """Return the address at which uvws found the loop, as a context on it has it."""
    from uvws.loops import adapt

    return adapt(loop).uv_loop


class _NoLoop:
    """Has nothing of a loop."""


@pytest.mark.parametrize(
    "loop", [1, "loop", object(), _NoLoop(), asyncio, asyncio.SelectorEventLoop]
)
def test_what_is_no_loop_is_a_type_error_that_names_the_supported_kinds(loop: object) -> None:
    with pytest.raises(TypeError) as caught:
        uvws.Context(loop)
    for kind in ("pyuv", "uvloop", "asyncio", "None"):
        assert kind in str(caught.value)
    assert type(loop).__name__ in str(caught.value)


def test_a_class_that_is_called_loop_is_no_loop() -> None:
    class Loop:
        """Looks like pyuv's by name."""

        __module__ = "pyuv._cpyuv"

    with pytest.raises(TypeError, match="pyuv"):
        uvws.Context(Loop())


def test_the_loop_class_of_pyuv_itself_is_no_loop() -> None:
    pyuv = pytest.importorskip("pyuv")
    with pytest.raises(TypeError, match="pyuv"):
        uvws.Context(pyuv.Loop)


@loop_kinds("uvloop", "asyncio")
def test_a_closed_loop_is_refused(runner: Runner) -> None:
    loop = asyncio.new_event_loop() if runner.kind == "asyncio" else _new_uvloop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        uvws.Context(loop)


def _new_uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def test_an_asyncio_loop_without_descriptors_is_refused_when_it_matters() -> None:
    class Loop(asyncio.AbstractEventLoop):
        """Implements nothing."""

    with pytest.raises((TypeError, NotImplementedError)):
        uvws.Context(Loop())


@loop_kinds("uvloop", "asyncio")
def test_none_is_the_running_asyncio_loop(runner: Runner) -> None:
    recorder = Recorder()

    async def main() -> Any:
        return uvws.Context(None)

    context = runner.loop.run_until_complete(main())
    try:
        listener = context.listen(host="127.0.0.1")
        context.connect(url_of(listener), **recorder.callbacks)
        runner.run(recorder.saw("connect"))
    finally:
        context.close()


def test_none_is_the_default_loop_of_pyuv_where_no_asyncio_loop_runs() -> None:
    run_program(
        """
        import pyuv, uvws
        from support import Recorder, url_of
        recorder = Recorder(on_connect=lambda connection, headers: context.close())
        context = uvws.Context()
        context.connect(url_of(context.listen(host="127.0.0.1")), **recorder.callbacks)
        pyuv.Loop.default_loop().run()
        assert recorder.names == ["connect", "close"], recorder.names
        """
    )


def test_none_is_an_error_that_says_what_to_install_where_there_is_neither() -> None:
    run_program(
        """
        import sys
        sys.modules["pyuv"] = None  # as if it were not installed
        import uvws
        try:
            uvws.Context()
        except RuntimeError as error:
            assert "pyuv" in str(error) and "install" in str(error), error
        else:
            raise AssertionError("no error")
        """
    )


def test_neither_pyuv_nor_uvloop_is_imported_for_an_asyncio_loop() -> None:
    run_program(
        """
        import asyncio, sys, uvws
        loop = asyncio.SelectorEventLoop()
        uvws.Context(loop).close()
        loop.close()
        assert not {"pyuv", "uvloop"} & set(sys.modules)
        """
    )


# --- The uv_loop_t of a pyuv loop -----------------------------------------------------------------


@loop_kinds("pyuv")
def test_the_uv_loop_of_a_new_loop_is_found(runner: Runner) -> None:
    found = _address_found(runner.loop)
    assert found == uv_loop_of(runner.loop).address.value


@loop_kinds("pyuv")
def test_the_uv_loop_of_a_subclass_is_found(runner: Runner) -> None:
    import pyuv

    class Loop(pyuv.Loop):
        """With fields of its own that point back at the object as well."""

        __slots__ = ("me",)

    loop = Loop()
    loop.me = loop
    found = _address_found(loop)
    expected = uv_loop_of(loop).address.value
    loop.run()  # the handle that found it closes
    loop.me = None
    assert found == expected


def test_the_uv_loop_of_the_default_loop_is_found() -> None:
    run_program(
        """
        import pyuv
        from support.libuv import uv_loop_of
        from uvws.loops import adapt
        loop = pyuv.Loop.default_loop()
        assert adapt(loop).uv_loop == uv_loop_of(loop).address.value
        """
    )


@loop_kinds("uvloop")
def test_the_uv_loop_of_a_uvloop_loop_is_found(runner: Runner) -> None:
    assert _address_found(runner.loop) == uv_loop_of(runner.loop).address.value


@loop_kinds("pyuv")
def test_many_loops_are_told_apart(runner: Runner) -> None:
    import pyuv

    loops = [pyuv.Loop() for _ in range(5)]
    assert len({_address_found(loop) for loop in loops}) == 5
    for loop in loops:
        assert _address_found(loop) == uv_loop_of(loop).address.value
        loop.run()


def test_the_default_loop_is_not_made_for_the_sake_of_another_loop() -> None:
    run_program(
        """
        import os, pyuv, uvws
        pyuv.Loop()  # libuv opens a pipe for signals with the first loop and keeps it
        loop = pyuv.Loop()
        before = len(os.listdir("/proc/self/fd"))
        uvws.Context(loop).close()
        loop.run()
        assert len(os.listdir("/proc/self/fd")) == before
        """
    )


@loop_kinds("pyuv")
def test_an_address_that_does_not_prove_to_be_the_loop_is_not_used(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyuv

    from uvws.loops import pyuv_loop

    other = pyuv.Loop()
    address = uv_loop_of(other).address.value
    monkeypatch.setattr(pyuv_loop, "_candidates", lambda _loop: [address])
    with pytest.raises(RuntimeError, match="uv_loop_t") as caught:
        uvws.Context(runner.loop)
    assert "address" in str(caught.value)
    other.run()


@loop_kinds("pyuv")
def test_a_loop_that_cannot_be_found_is_a_clear_error(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uvws.loops import pyuv_loop

    monkeypatch.setattr(pyuv_loop, "_candidates", lambda _loop: [])
    with pytest.raises(RuntimeError, match="uv_loop_t"):
        uvws.Context(runner.loop)


@loop_kinds("pyuv")
def test_a_loop_that_was_not_found_leaves_nothing_behind(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uvws.loops import pyuv_loop

    with monkeypatch.context() as patch:
        patch.setattr(pyuv_loop, "_candidates", lambda _loop: [])
        with pytest.raises(RuntimeError):
            uvws.Context(runner.loop)
    assert url_of(echo(runner))


# --- What a context holds -------------------------------------------------------------------------


@loop_kinds("pyuv")
def test_a_context_keeps_its_loop_from_being_collected(runner: Runner) -> None:
    import pyuv

    loop = weakref.ref(kept := pyuv.Loop())
    context = uvws.Context(kept)
    del kept
    gc.collect()
    found = loop()
    assert found is not None
    context.close()
    found.run()


@loop_kinds("pyuv")
def test_a_closed_context_lets_its_loop_go_once_the_handles_are_closed(runner: Runner) -> None:
    import pyuv

    loop = pyuv.Loop()
    gone: list[None] = []
    weakref.finalize(loop, gone.append, None)
    context = uvws.Context(loop)
    context.close()
    loop.run()
    del loop, context
    gc.collect()
    assert gone


@loop_kinds("uvloop", "asyncio")
def test_a_closed_context_lets_its_asyncio_loop_go(runner: Runner) -> None:
    loop = runner.loop
    references = []
    for _ in range(3):
        for _ in range(30):  # asyncio keeps cancelled timers, and with them itself, for a while
            uvws.Context(loop).close()
        runner.turns(3)
        gc.collect()
        references.append(sys.getrefcount(loop))
    assert references[2] <= references[0] + 10
