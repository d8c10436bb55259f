/*
 * The hot path through CPython's own API, the limited one of 3.10: messages to the user's
 * callbacks, `Connection.send`, and bytes objects that payloads are received into. What it does is
 * also in core.py and connection.py, by way of cffi, for Pythons that have no such API.
 */
#include "uvws.h"

#ifndef PYPY_VERSION
#include <Python.h>

/* From a frame of so many bytes on the message is put together in the object that the user gets. */
#define BYTES_MIN 32768
/* More than this is not set aside on the word of a frame header. */
#define BYTES_MAX (64 * 1024 * 1024)
/* Characters. */
#define LONG_TEXT 1024

/* The names that are looked up; made once and kept, as modules of this kind are. */
static PyObject *name_deliver;
static PyObject *name_pong;
static PyObject *name_address;
static PyObject *name_send_other;
static PyObject *name_refuse;
static PyObject *name_isascii;
static PyObject *name_rare;
static PyObject *name_report;

static bool intern_names(void)
{
    struct {
        PyObject **where;
        const char *name;
    } names[] = {
        {&name_deliver, "deliver"}, {&name_address, "address"},    {&name_send_other, "send_other"},
        {&name_refuse, "refuse"},   {&name_rare, "dispatch_rare"}, {&name_report, "report_current"},
        {&name_isascii, "isascii"}, {&name_pong, "pong"},
    };
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++)
        if (!*names[n].where && !(*names[n].where = PyUnicode_InternFromString(names[n].name)))
            return false;
    return true;
}

/* --- Sending --- */

/* NULL for a connection that is over; an error is set where the attribute is not what it should be.
 */
static uvws_connection *connection_of(PyObject *self)
{
    PyObject *address = PyObject_GetAttr(self, name_address);
    if (!address)
        return NULL;
    uvws_connection *connection = PyLong_AsVoidPtr(address);
    Py_DECREF(address);
    return connection;
}

/* Whether a text is one whose UTF-8 is what it has in memory. For any other CPython makes the UTF-8
 * and keeps it with the object, which is not to be done to large ones. */
static bool has_utf8(PyObject *text)
{
    if (PyUnicode_GetLength(text) < LONG_TEXT)
        return true;
    PyObject *answer = PyObject_CallMethodObjArgs(text, name_isascii, NULL);
    bool is_ascii = answer == Py_True;
    PyErr_Clear();
    Py_XDECREF(answer);
    return is_ascii;
}

/* `*owner`, a new reference, holds the memory that is returned. */
static const char *contents(PyObject *data, int *kind, Py_ssize_t *size, PyObject **owner)
{
    char *bytes = NULL;
    *kind = PyUnicode_CheckExact(data) ? UVWS_TEXT : UVWS_BINARY;
    if (*kind == UVWS_TEXT && !has_utf8(data)) {
        *owner = PyUnicode_AsUTF8String(data);
        return *owner && !PyBytes_AsStringAndSize(*owner, &bytes, size) ? bytes : NULL;
    }
    Py_INCREF(data);
    *owner = data;
    if (*kind == UVWS_TEXT)
        return PyUnicode_AsUTF8AndSize(data, size);
    return PyBytes_AsStringAndSize(data, &bytes, size) ? NULL : bytes;
}

/* The object stays until the event UNPIN, whose token is its address: see deliver(). */
static int64_t send_large(uvws_connection *connection, int kind, const char *payload,
                          Py_ssize_t size, PyObject *data)
{
    int64_t result;
    Py_INCREF(data);
    Py_BEGIN_ALLOW_THREADS;
    result = uvws_send_pinned(connection, kind, payload, (size_t)size, (uint64_t)(uintptr_t)data);
    Py_END_ALLOW_THREADS;
    if (result < 0)
        Py_DECREF(data);
    return result;
}

static PyObject *refuse(PyObject *self, int64_t result)
{
    PyObject *number = PyLong_FromLongLong(result);
    if (!number)
        return NULL;
    PyObject *answer = PyObject_CallMethodObjArgs(self, name_refuse, number, NULL);
    Py_DECREF(number);
    return answer;
}

static int64_t send_object(uvws_connection *connection, PyObject *data, bool *failed)
{
    int kind;
    int64_t result = 0;
    Py_ssize_t size;
    PyObject *owner = NULL;
    const char *payload = contents(data, &kind, &size, &owner);
    *failed = !payload;
    if (payload && size < UVWS_PIN_SIZE)
        result = uvws_send(connection, kind, payload, (size_t)size);
    else if (payload)
        result = send_large(connection, kind, payload, size, owner);
    Py_XDECREF(owner);
    return result;
}

static PyObject *method_send(PyObject *self, PyObject *data)
{
    bool failed;
    if (!PyUnicode_CheckExact(data) && !PyBytes_CheckExact(data))
        return PyObject_CallMethodObjArgs(self, name_send_other, data, NULL);
    uvws_connection *connection = connection_of(self);
    if (!connection && PyErr_Occurred())
        return NULL;
    int64_t result = send_object(connection, data, &failed);
    if (failed)
        return NULL;
    if (result < 0)
        return refuse(self, result);
    Py_RETURN_NONE;
}

static PyMethodDef send_definition = {
    "send", method_send, METH_O,
    "send($self, data, /)\n--\n\n"
    "Send a message: text for a str, binary for anything bytes-like.\n\n"
    "It is queued, and written when the loop comes round. Where the queue holds `max_send_queue`\n"
    "bytes already, `on_send_overflow` says what happens.\n\n"
    "Args:\n"
    "    data: the whole message. Changing a mutable one afterwards does not change what is "
    "sent.\n\n"
    "Raises:\n"
    "    TypeError: `data` is neither.\n"
    "    UnicodeEncodeError: `data` has a lone surrogate.\n"
    "    uvws.ConnectionClosed: the connection is not open.\n"
    "    uvws.SendQueueFull: the send queue is full, and `on_send_overflow` is \"raise\".\n"
    "    uvws.InvalidState: a message in fragments has begun and has not been ended.\n"
    "    uvws.WrongThread: this is not the loop's thread.\n"};

static bool install_send(PyObject *type)
{
    PyObject *method = PyDescr_NewMethod((PyTypeObject *)type, &send_definition);
    int failed = !method || PyObject_SetAttrString(type, "send", method);
    Py_XDECREF(method);
    return !failed;
}

int uvws_cpython_install(void *connection_type)
{
    PyGILState_STATE state = PyGILState_Ensure();
    bool fine = intern_names() && install_send(connection_type);
    if (!fine)
        PyErr_Clear();
    PyGILState_Release(state);
    return fine ? UVWS_OK : UVWS_FAILED;
}

void uvws_cpython_attach(uvws_context *context, void *core, void *connections)
{
    context->python_core = core;
    context->python_connections = connections;
}

/* --- Receiving --- */

bool uvws_cpython_bytes_wanted(const uvws_context *context, size_t size)
{
    return context->python_core && size >= BYTES_MIN && size <= BYTES_MAX;
}

/* An object of that size, and where its bytes are; NULL where there is no memory. */
void *uvws_cpython_bytes(size_t size, char **data)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (bytes)
        *data = PyBytes_AsString(bytes);
    else
        PyErr_Clear();
    PyGILState_Release(state);
    return bytes;
}

void uvws_cpython_release(void *object)
{
    PyGILState_STATE state = PyGILState_Ensure();
    Py_DECREF((PyObject *)object);
    PyGILState_Release(state);
}

/* A message is delivered to `connection`, the one of `slot`, which is kept from one to the next. */
struct delivery {
    uvws_context *context;
    const struct event_queue *queue;
    PyObject *core;        /* borrowed: Python's list of what is registered holds it */
    PyObject *connections; /* borrowed: the core's */
    PyObject *payload;     /* owned; made when Python needs it */
    PyObject *connection;  /* owned, or NULL */
    int64_t slot;
};

static bool find_connection(struct delivery *delivery, int64_t slot)
{
    if (delivery->connection && delivery->slot == slot)
        return true;
    Py_CLEAR(delivery->connection);
    PyObject *key = PyLong_FromLongLong(slot);
    if (!key)
        return false;
    delivery->connection = PyDict_GetItemWithError(delivery->connections, key);
    Py_XINCREF(delivery->connection);
    delivery->slot = slot;
    Py_DECREF(key);
    return delivery->connection != NULL;
}

static PyObject *message_of(struct delivery *delivery, const int64_t *record)
{
    const char *small = delivery->queue->arena.data + record[1];
    char *large = (char *)(intptr_t)record[1];
    Py_ssize_t size = (Py_ssize_t)record[2];
    PyObject *data = NULL;
    switch (record[0] & 0xff) {
    case UVWS_EVENT_TEXT:
        return PyUnicode_DecodeUTF8(small, size, NULL);
    case UVWS_EVENT_BINARY:
        return PyBytes_FromStringAndSize(small, size);
    case UVWS_EVENT_BYTES:
        return (PyObject *)(intptr_t)record[1];
    case UVWS_EVENT_LARGE_TEXT:
        data = PyUnicode_DecodeUTF8(large, size, NULL);
        break;
    default:
        data = PyBytes_FromStringAndSize(large, size);
        break;
    }
    uvws_recycle(delivery->context, large, (size_t)record[3]);
    return data;
}

static void deliver_message(struct delivery *delivery, const int64_t *record)
{
    PyObject *data = message_of(delivery, record);
    if (!data)
        return;
    if (find_connection(delivery, record[0] >> 8)) {
        PyObject *connection = delivery->connection;
        PyObject *deliver = PyObject_GetAttr(connection, name_deliver);
        PyObject *result =
            deliver ? PyObject_CallFunctionObjArgs(deliver, connection, data, NULL) : NULL;
        Py_XDECREF(result);
        Py_XDECREF(deliver);
    }
    Py_DECREF(data);
}

static void deliver_pong(struct delivery *delivery, const int64_t *record)
{
    if (!find_connection(delivery, record[0] >> 8))
        return;
    const char *data = delivery->queue->arena.data + record[1];
    PyObject *payload = PyBytes_FromStringAndSize(data, (Py_ssize_t)record[2]);
    PyObject *result =
        payload ? PyObject_CallMethodObjArgs(delivery->connection, name_pong, payload, NULL) : NULL;
    Py_XDECREF(result);
    Py_XDECREF(payload);
}

static void deliver_rare(struct delivery *delivery, const int64_t *record)
{
    const struct buffer *arena = &delivery->queue->arena;
    Py_CLEAR(delivery->connection); /* it may go, and another come to its slot */
    if (!delivery->payload)
        delivery->payload = PyBytes_FromStringAndSize(arena->data, (Py_ssize_t)arena->size);
    PyObject *numbers =
        delivery->payload
            ? Py_BuildValue("(iLLLL)", (int)(record[0] & 0xff), (long long)(record[0] >> 8),
                            (long long)record[1], (long long)record[2], (long long)record[3])
            : NULL;
    PyObject *result = numbers ? PyObject_CallMethodObjArgs(delivery->core, name_rare, numbers,
                                                            delivery->payload, NULL)
                               : NULL;
    Py_XDECREF(result);
    Py_XDECREF(numbers);
}

/* The exception that is set, whatever it is, goes to the user's handler. */
static void report(struct delivery *delivery)
{
    PyObject *type = NULL;
    PyObject *error = NULL;
    PyObject *traceback = NULL;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback)
        PyException_SetTraceback(error, traceback);
    PyObject *result = PyObject_CallMethodObjArgs(delivery->core, name_report, error, NULL);
    if (!result)
        PyErr_Clear(); /* it survives what the handler raises; this is memory running out */
    Py_XDECREF(result);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
}

static void deliver(struct delivery *delivery, const int64_t *record)
{
    switch (record[0] & 0xff) {
    case UVWS_EVENT_TEXT:
    case UVWS_EVENT_BINARY:
    case UVWS_EVENT_BYTES:
    case UVWS_EVENT_LARGE_TEXT:
    case UVWS_EVENT_LARGE_BINARY:
        deliver_message(delivery, record);
        break;
    case UVWS_EVENT_PONG:
        deliver_pong(delivery, record);
        break;
    case UVWS_EVENT_UNPIN:
        if (uvws_is_object(record[1]))
            Py_DECREF((PyObject *)(intptr_t)record[1]);
        else
            deliver_rare(delivery, record);
        break;
    default:
        deliver_rare(delivery, record);
        break;
    }
    if (PyErr_Occurred())
        report(delivery);
}

void uvws_cpython_events(uvws_context *context, const struct event_queue *queue)
{
    PyGILState_STATE state = PyGILState_Ensure();
    struct delivery delivery = {.context = context,
                                .queue = queue,
                                .core = context->python_core,
                                .connections = context->python_connections};
    Py_INCREF(delivery.core);
    Py_INCREF(delivery.connections);
    for (size_t n = 0; n < queue->count; n++)
        deliver(&delivery, queue->records + n * UVWS_EVENT_WORDS);
    Py_XDECREF(delivery.connection);
    Py_XDECREF(delivery.payload);
    Py_DECREF(delivery.connections);
    Py_DECREF(delivery.core);
    PyGILState_Release(state);
}
#else
int uvws_cpython_install(void *connection_type)
{
    (void)connection_type;
    return UVWS_FAILED;
}

void uvws_cpython_attach(uvws_context *context, void *core, void *connections)
{
    (void)context;
    (void)core;
    (void)connections;
}

bool uvws_cpython_bytes_wanted(const uvws_context *context, size_t size)
{
    (void)context;
    (void)size;
    return false;
}

void *uvws_cpython_bytes(size_t size, char **data)
{
    (void)size;
    (void)data;
    return NULL;
}

void uvws_cpython_release(void *object)
{
    (void)object;
}

void uvws_cpython_events(uvws_context *context, const struct event_queue *queue)
{
    (void)context;
    (void)queue;
}
#endif
