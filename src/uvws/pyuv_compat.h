/* Lets pyuv 1.4.0 (2017) build on CPython 3.10 and later: pass it to the C compiler with -include.
 *
 * `python -m uvws pyuv-cflags` prints the flags. On CPython up to 3.9 it changes nothing.
 * pyuv's build compiles its bundled libuv with the same flags, so this must stay harmless there.
 */
#ifndef UVWS_PYUV_COMPAT_H
#define UVWS_PYUV_COMPAT_H

/* As pyuv.h does before its own #include: without it "y#" and "s#" raise at run time. */
#ifndef PY_SSIZE_T_CLEAN
#define PY_SSIZE_T_CLEAN
#endif
#include <Python.h>

#if !defined(PYPY_VERSION)

#if defined(Py_GIL_DISABLED)
#error "pyuv needs the GIL: use a regular build of CPython, not a free-threaded one"
#endif

/* 3.10 made Py_REFCNT() an expression. pyuv (handle.c, resurrect_object) assigns to it, so give it
 * the plain field back. What Python.h itself does with reference counts is compiled by now. */
#if PY_VERSION_HEX >= 0x030A0000
#undef Py_REFCNT
#define Py_REFCNT(ob) (((PyObject *)(ob))->ob_refcnt)
#endif

/* pyuv (abstract.c, pyuv__deallocate_handle_data) frees a block in uv_run() without the GIL. That
 * was a race before 3.12 and is a crash since, for the allocator is now a part of the interpreter's
 * state. The raw one needs no GIL; pyuv frees only what it has allocated with this same pair. */
#if PY_VERSION_HEX >= 0x030A0000
#undef PyMem_Malloc
#undef PyMem_Free
#define PyMem_Malloc(size) PyMem_RawMalloc(size)
#define PyMem_Free(block)  PyMem_RawFree(block)
#endif

/* 3.11 removed PyUnicode_EncodeUTF8(), 3.12 the Py_UNICODE accessors. pyuv (common.c) has them in
 * one call, EncodeUTF8(AS_UNICODE(s), GET_SIZE(s), errors), for the rare case that no file system
 * encoding is known: hand the str itself through and let the codec API that is left encode it. */
#if PY_VERSION_HEX >= 0x030B0000
#undef PyUnicode_AS_UNICODE
#undef PyUnicode_GET_SIZE
#undef PyUnicode_EncodeUTF8
#define PyUnicode_AS_UNICODE(str) ((PyObject *)(str))
#define PyUnicode_GET_SIZE(str)   PyUnicode_GetLength((PyObject *)(str))
#define PyUnicode_EncodeUTF8(str, size, errors)                                                    \
    ((void)(size), PyUnicode_AsEncodedString((str), "utf-8", (errors)))

/* The interpreter has set up the GIL by itself since 3.7; the deprecated call is to be removed. */
#undef PyEval_InitThreads
#define PyEval_InitThreads() ((void)0)
#endif

#endif /* !PYPY_VERSION */

#endif /* UVWS_PYUV_COMPAT_H */
