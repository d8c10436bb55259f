/*
 * The part of libuv 1.x's stable ABI that uvws uses. No libuv is linked and no header of it is
 * needed: the functions are those of the libuv that the user's loop lives in (loop_libuv.c).
 */
#ifndef UVWS_UV_ABI_H
#define UVWS_UV_ABI_H

#include <stddef.h>
#include <stdint.h>

/* enum uv_handle_type */
#define UV_ASYNC   1
#define UV_CHECK   2
#define UV_POLL    8
#define UV_PREPARE 9
#define UV_TIMER   13

typedef void uv_loop_t;
typedef void uv_handle_t;
typedef void (*uv_close_cb)(uv_handle_t *handle);
typedef void (*uv_handle_cb)(uv_handle_t *handle); /* async, check, prepare and timer */
typedef void (*uv_poll_cb)(uv_handle_t *handle, int status, int events);

struct uv_table {
    unsigned int (*version)(void);
    size_t (*handle_size)(int type);
    int (*backend_fd)(const uv_loop_t *loop);
    uint64_t (*now)(const uv_loop_t *loop);
    void (*close)(uv_handle_t *handle, uv_close_cb callback);
    void (*ref)(uv_handle_t *handle);
    void (*unref)(uv_handle_t *handle);
    int (*async_init)(uv_loop_t *loop, uv_handle_t *async, uv_handle_cb callback);
    int (*async_send)(uv_handle_t *async);
    int (*check_init)(uv_loop_t *loop, uv_handle_t *check);
    int (*check_start)(uv_handle_t *check, uv_handle_cb callback);
    int (*check_stop)(uv_handle_t *check);
    int (*poll_init)(uv_loop_t *loop, uv_handle_t *poll, int fd);
    int (*poll_start)(uv_handle_t *poll, int events, uv_poll_cb callback);
    int (*poll_stop)(uv_handle_t *poll);
    int (*prepare_init)(uv_loop_t *loop, uv_handle_t *prepare);
    int (*prepare_start)(uv_handle_t *prepare, uv_handle_cb callback);
    int (*prepare_stop)(uv_handle_t *prepare);
    int (*timer_init)(uv_loop_t *loop, uv_handle_t *timer);
    int (*timer_start)(uv_handle_t *timer, uv_handle_cb callback, uint64_t timeout,
                       uint64_t repeat);
    int (*timer_stop)(uv_handle_t *timer);
    void (*update_time)(uv_loop_t *loop);
};

#endif
