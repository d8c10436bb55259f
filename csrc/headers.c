/* The headers of a handshake for Python: "name\0value\0" after each other. The bundled lws keeps
 * the head as it came; of another one there is what it has made of it, in its header table. */
#include <stdlib.h>
#include <string.h>

#include "head.h"
#include "uvws.h"

static bool append_pair(struct buffer *out, const char *name, size_t name_size, const char *value,
                        size_t value_size)
{
    return uvws_buffer_append(out, name, name_size) && uvws_buffer_append(out, "", 1) &&
           uvws_buffer_append(out, value, value_size) && uvws_buffer_append(out, "", 1);
}

/* What we say of the request line under names of headers, which a client could send as well. */
static bool is_ours(const char *name, size_t size)
{
    struct text text = {name, size};
    return uvws_text_is(text, "Path") || uvws_text_is(text, "Query");
}

struct method {
    enum lws_token_indexes token;
    const char *name;
};

static const struct method methods[] = {
    {WSI_TOKEN_GET_URI, "GET"},       {WSI_TOKEN_HEAD_URI, "HEAD"},
    {WSI_TOKEN_POST_URI, "POST"},     {WSI_TOKEN_PUT_URI, "PUT"},
    {WSI_TOKEN_DELETE_URI, "DELETE"}, {WSI_TOKEN_OPTIONS_URI, "OPTIONS"},
    {WSI_TOKEN_PATCH_URI, "PATCH"},
};

/* lws has one token for the path of each method. */
static const struct method *method_of(struct lws *wsi)
{
    for (size_t n = 0; n < sizeof(methods) / sizeof(methods[0]); n++)
        if (lws_hdr_total_length(wsi, methods[n].token) > 0)
            return &methods[n];
    return &methods[0];
}

const char *uvws_request_method(struct lws *wsi)
{
    return method_of(wsi)->name;
}

#ifdef UVWS_BUNDLED_LWS

static bool append_text(struct buffer *out, struct text name, struct text value)
{
    return append_pair(out, name.at, name.size, value.at, value.size);
}

static bool append_target(struct buffer *out, struct text line)
{
    static const struct text path_name = {"Path", 4};
    static const struct text query_name = {"Query", 5};
    struct request_line request;
    struct text path;
    struct text query;
    if (!uvws_request_line(line, &request))
        return false;
    uvws_target_split(request.target, &path, &query);
    return append_text(out, path_name, path) &&
           (!query.size || append_text(out, query_name, query));
}

bool uvws_headers_collect(struct lws *wsi, bool is_request, struct buffer *out)
{
    struct text name;
    struct text value;
    size_t size;
    const char *data = lws_hdr_raw(wsi, &size);
    if (!data)
        return false;
    struct head head = {data, data + size};
    struct text first = uvws_head_line(&head);
    if (is_request && !append_target(out, first))
        return false;
    while (uvws_head_field(&head, &name, &value))
        if (!(is_request && is_ours(name.at, name.size)) && !append_text(out, name, value))
            return false;
    return true;
}

#else

/* lws has the names in lower case. */
static void spell(char *name, size_t size)
{
    static const char websocket[] = "-Websocket-";
    for (size_t n = 0; n < size; n++)
        if ((n == 0 || name[n - 1] == '-') && name[n] >= 'a' && name[n] <= 'z')
            name[n] = (char)(name[n] - 'a' + 'A');
    char *found = memmem(name, size, websocket, sizeof(websocket) - 1);
    if (found)
        found[4] = 'S';
}

static bool append_spelled(struct buffer *out, const char *name, size_t name_size,
                           const char *value, size_t value_size)
{
    size_t begin = out->size;
    if (!append_pair(out, name, name_size, value, value_size))
        return false;
    spell(out->data + begin, name_size);
    return true;
}

/* lws writes a terminating NUL, hence the extra byte. */
static bool append_fragment(struct lws *wsi, enum lws_token_indexes token, int fragment,
                            const char *name, size_t name_size, struct buffer *out)
{
    int size = lws_hdr_fragment_length(wsi, token, fragment);
    if (size <= 0)
        return true;
    char *value = malloc((size_t)size + 1);
    if (!value)
        return false;
    bool fine = true;
    if (lws_hdr_copy_fragment(wsi, value, size + 1, token, fragment) >= 0)
        fine = append_spelled(out, name, name_size, value, (size_t)size);
    free(value);
    return fine;
}

static bool append_token(struct lws *wsi, enum lws_token_indexes token, const char *name,
                         size_t name_size, struct buffer *out)
{
    for (int fragment = 0; lws_hdr_fragment_length(wsi, token, fragment) > 0; fragment++)
        if (!append_fragment(wsi, token, fragment, name, name_size, out))
            return false;
    return true;
}

struct custom_headers {
    struct lws *wsi;
    struct buffer *out;
    bool is_request;
    bool failed;
};

/* Headers that lws has no token for. */
static void append_custom(const char *name, int name_size, void *opaque)
{
    struct custom_headers *custom = opaque;
    int size = lws_hdr_custom_length(custom->wsi, name, name_size);
    if (size < 0 || custom->failed)
        return;
    if (custom->is_request && is_ours(name, (size_t)name_size - 1))
        return;
    char *value = malloc((size_t)size + 1);
    if (!value || lws_hdr_custom_copy(custom->wsi, value, size + 1, name, name_size) < 0 ||
        !append_spelled(custom->out, name, (size_t)name_size - 1, value, (size_t)size))
        custom->failed = true;
    free(value);
}

/* lws keeps the query string in pieces, one for each "&". */
static bool append_query(struct lws *wsi, struct buffer *out)
{
    static const char name[] = "Query";
    struct buffer query = {0};
    bool fine = true;
    int size = 0;
    for (int n = 0; fine && (size = lws_hdr_fragment_length(wsi, WSI_TOKEN_HTTP_URI_ARGS, n)) > 0;
         n++) {
        if (n)
            fine = uvws_buffer_append(&query, "&", 1);
        fine = fine && uvws_buffer_reserve(&query, query.size + (size_t)size + 1);
        if (fine && lws_hdr_copy_fragment(wsi, query.data + query.size, size + 1,
                                          WSI_TOKEN_HTTP_URI_ARGS, n) >= 0)
            query.size += (size_t)size;
    }
    if (fine && query.size)
        fine = append_spelled(out, name, sizeof(name) - 1, query.data, query.size);
    uvws_buffer_free(&query);
    return fine;
}

bool uvws_headers_collect(struct lws *wsi, bool is_request, struct buffer *out)
{
    static const char path[] = "Path";
    if (is_request && (!append_token(wsi, method_of(wsi)->token, path, sizeof(path) - 1, out) ||
                       !append_query(wsi, out)))
        return false;
    for (int token = 0; token < WSI_TOKEN_COUNT; token++) {
        const char *name = (const char *)lws_token_to_string((enum lws_token_indexes)token);
        size_t size = name ? strlen(name) : 0;
        /* The other tokens are request lines, pseudo-headers and lws's own. */
        if (size < 2 || name[size - 1] != ':' || name[0] == ':')
            continue;
        if (!append_token(wsi, (enum lws_token_indexes)token, name, size - 1, out))
            return false;
    }
    struct custom_headers custom = {.wsi = wsi, .out = out, .is_request = is_request};
    lws_hdr_custom_name_foreach(wsi, append_custom, &custom);
    return !custom.failed;
}

#endif
