/*
 * Memory that runs out on request, for tests/run_faults.py; only in a build with UVWS_FAULTS.
 *
 * The linker sends what the core and libwebsockets ask of malloc() and its kin to the functions
 * below; libwebsockets, zlib and OpenSSL are given an allocator of their own, so that one of them
 * can be made to fail and not the others. Each block is counted until it is freed: whatever is left
 * when a test is over was lost.
 *
 * Not for more than one thread.
 */
#include <execinfo.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <libwebsockets.h>

#define EXPORTED __attribute__((visibility("default")))
#define FRAMES   24

void *__real_malloc(size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_calloc(size_t count, size_t size);
void __real_free(void *memory);
int __real_deflateInit2_(z_streamp stream, int level, int method, int bits, int memory_level,
                         int strategy, const char *version, int size);
int __real_inflateInit2_(z_streamp stream, int bits, const char *version, int size);

enum who { CORE, LWS, ZLIB, OPENSSL, PARTIES };

static struct {
    bool armed;
    enum who who;
    long first; /* the number of the first allocation that fails, from 1 */
    long last;
    long seen;
    long failed;
    int log; /* a descriptor; -1: nobody wants to know where it was */
} plan = {.log = -1};

static long live[PARTIES];

/* Which one fails, and never mind how often: `last` may be LONG_MAX. */
EXPORTED void uvws_faults_arm(int who, long first, long last, int log)
{
    plan.armed = true;
    plan.who = (enum who)who;
    plan.first = first;
    plan.last = last;
    plan.seen = 0;
    plan.failed = 0;
    plan.log = log;
}

EXPORTED void uvws_faults_disarm(void)
{
    plan.armed = false;
}

EXPORTED long uvws_faults_seen(void)
{
    return plan.seen;
}

EXPORTED long uvws_faults_failed(void)
{
    return plan.failed;
}

EXPORTED long uvws_faults_live(int who)
{
    return live[who];
}

static void say_where(void)
{
    void *frames[FRAMES];
    int count = backtrace(frames, FRAMES);
    backtrace_symbols_fd(frames, count, plan.log);
}

static bool fails(enum who who)
{
    if (!plan.armed || who != plan.who)
        return false;
    plan.seen++;
    if (plan.seen < plan.first || plan.seen > plan.last)
        return false;
    plan.failed++;
    if (plan.log >= 0 && plan.failed == 1)
        say_where();
    return true;
}

static void *counted(enum who who, void *memory)
{
    live[who] += memory != NULL;
    return memory;
}

static void *allocate(enum who who, size_t size)
{
    return fails(who) ? NULL : counted(who, __real_malloc(size));
}

static void release(enum who who, void *memory)
{
    live[who] -= memory != NULL;
    __real_free(memory);
}

static void *resize(enum who who, void *memory, size_t size)
{
    if (!memory)
        return allocate(who, size);
    return fails(who) ? NULL : __real_realloc(memory, size);
}

/* --- The core --- */

void *__wrap_malloc(size_t size)
{
    return allocate(CORE, size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails(CORE) ? NULL : counted(CORE, __real_calloc(count, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
    return resize(CORE, memory, size);
}

void __wrap_free(void *memory)
{
    release(CORE, memory);
}

char *__wrap_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = allocate(CORE, size);
    return copy ? memcpy(copy, text, size) : NULL;
}

/* --- The others --- */

static void *lws_allocator(void *memory, size_t size, const char *reason)
{
    (void)reason;
    if (size)
        return resize(LWS, memory, size);
    release(LWS, memory);
    return NULL;
}

static void *zlib_allocate(void *opaque, unsigned int count, unsigned int size)
{
    (void)opaque;
    return allocate(ZLIB, (size_t)count * size);
}

static void zlib_release(void *opaque, void *memory)
{
    (void)opaque;
    release(ZLIB, memory);
}

int __wrap_deflateInit2_(z_streamp stream, int level, int method, int bits, int memory_level,
                         int strategy, const char *version, int size)
{
    stream->zalloc = zlib_allocate;
    stream->zfree = zlib_release;
    return __real_deflateInit2_(stream, level, method, bits, memory_level, strategy, version, size);
}

int __wrap_inflateInit2_(z_streamp stream, int bits, const char *version, int size)
{
    stream->zalloc = zlib_allocate;
    stream->zfree = zlib_release;
    return __real_inflateInit2_(stream, bits, version, size);
}

static void *openssl_allocate(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return allocate(OPENSSL, size);
}

static void *openssl_resize(void *memory, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    if (size)
        return resize(OPENSSL, memory, size);
    release(OPENSSL, memory);
    return NULL;
}

static void openssl_release(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    release(OPENSSL, memory);
}

/* OpenSSL takes an allocator only as long as it has none of its memory: so this file has to be
 * loaded before anything uses it. 0 says that it was not. */
EXPORTED int uvws_faults_openssl;

__attribute__((constructor)) static void install(void)
{
    void *frames[1];
    backtrace(frames, 1); /* it allocates the first time */
    lws_set_allocator(lws_allocator);
    uvws_faults_openssl =
        CRYPTO_set_mem_functions(openssl_allocate, openssl_resize, openssl_release);
}
