/* The head of a request or a response, as it came: read with the functions of head.c. */
#ifndef UVWS_HEAD_H
#define UVWS_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A piece of a head; borrowed. */
struct text {
    const char *at;
    size_t size;
};

/* What is still to be read of a head; borrowed. */
struct head {
    const char *at;
    const char *end;
};

struct request_line {
    struct text method;
    struct text target;
    struct text version; /* "1.1" */
};

struct status_line {
    struct text version;
    int status;
    struct text phrase; /* the number and what is behind it: "404 Not Found" */
};

enum head_verdict {
    HEAD_PARTIAL, /* and fine so far */
    HEAD_WHOLE,
    HEAD_NOT_HTTP,  /* the first line is no request line, or no status line */
    HEAD_MALFORMED, /* another line is no header field */
};

enum head_verdict uvws_head_check(const char *data, size_t size, bool is_request,
                                  uint32_t *checked);
struct text uvws_head_line(struct head *head);
bool uvws_head_field(struct head *head, struct text *name, struct text *value);
bool uvws_request_line(struct text line, struct request_line *request);
bool uvws_status_line(struct text line, struct status_line *response);
bool uvws_text_is(struct text text, const char *word);
bool uvws_text_lists(struct text list, const char *word);
bool uvws_text_is_tokens(struct text list);
bool uvws_text_is_extensions(struct text list);
bool uvws_target_is_fine(struct text target);
void uvws_target_split(struct text target, struct text *path, struct text *query);

#endif
