/*
 * head.c: the verdict on a head must not depend on the pieces that it comes in, and must be the one
 * of a second reader of RFC 9112, which goes through it with a table of what may follow what. What
 * is read out of a head that is fine must lie within it.
 */
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "head.h"

static bool is_token_byte(uint8_t byte)
{
    return byte > ' ' && byte < 0x7F && !strchr("\"(),/:;<=>?@[\\]{}", byte);
}

static bool is_text_byte(uint8_t byte)
{
    return byte == '\t' || (byte >= ' ' && byte != 0x7F);
}

static size_t token(const uint8_t *line, size_t size)
{
    size_t n = 0;
    while (n < size && is_token_byte(line[n]))
        n++;
    return n;
}

static bool is_version(const uint8_t *at)
{
    return !memcmp(at, "HTTP/", 5) && at[5] >= '0' && at[5] <= '9' && at[6] == '.' &&
           at[7] >= '0' && at[7] <= '9';
}

static bool is_request_line(const uint8_t *line, size_t size)
{
    size_t method = token(line, size);
    if (!method || size < method + 11 || line[method] != ' ' || !is_version(line + size - 8) ||
        line[size - 9] != ' ')
        return false;
    for (size_t n = method + 1; n < size - 9; n++)
        if (line[n] == ' ' || line[n] == '\t' || !is_text_byte(line[n]))
            return false;
    return true;
}

static bool is_status_line(const uint8_t *line, size_t size)
{
    if (size < 12 || !is_version(line) || line[8] != ' ' || line[9] < '1' || line[9] > '9')
        return false;
    for (size_t n = 10; n < size; n++)
        if (n < 12 ? line[n] < '0' || line[n] > '9' : !is_text_byte(line[n]))
            return false;
    return size == 12 || line[12] == ' ';
}

static bool is_field_line(const uint8_t *line, size_t size)
{
    size_t name = token(line, size);
    if (!name || name == size || line[name] != ':')
        return false;
    for (size_t n = name + 1; n < size; n++)
        if (!is_text_byte(line[n]))
            return false;
    return true;
}

/* Of a head that ends within the data; HEAD_PARTIAL stands for any that does not. */
static enum head_verdict judge(const uint8_t *data, size_t size, bool is_request)
{
    bool first = true;
    const uint8_t *end;
    while (size && (end = memchr(data, '\n', size))) {
        size_t length = (size_t)(end - data);
        bool has_return = length && data[length - 1] == '\r';
        if (has_return)
            length--;
        if (first && !(has_return &&
                       (is_request ? is_request_line(data, length) : is_status_line(data, length))))
            return HEAD_NOT_HTTP;
        if (!first && has_return && !length)
            return HEAD_WHOLE;
        if (!first && !(has_return && is_field_line(data, length)))
            return HEAD_MALFORMED;
        first = false;
        size -= (size_t)(end + 1 - data);
        data = end + 1;
    }
    return HEAD_PARTIAL;
}

static void read_out(const char *data, size_t size, bool is_request)
{
    struct head head = {data, data + size};
    struct text line = uvws_head_line(&head);
    struct text name;
    struct text value;
    if (is_request) {
        struct request_line request;
        struct text path;
        struct text query;
        CHECK(uvws_request_line(line, &request));
        if (uvws_target_is_fine(request.target))
            CHECK(request.target.at[0] == '/' || memchr(request.target.at, ':', 6));
        uvws_target_split(request.target, &path, &query);
        CHECK(path.size && path.size + query.size <= request.target.size + 1);
    } else {
        struct status_line status;
        CHECK(uvws_status_line(line, &status));
        CHECK(status.status >= 100 && status.status <= 999 && status.phrase.size >= 3);
    }
    while (uvws_head_field(&head, &name, &value)) {
        CHECK(name.size && name.at >= data && name.at + name.size < data + size);
        CHECK(value.at >= data && value.at + value.size < data + size);
        CHECK(!memchr(value.at, '\n', value.size) && !memchr(name.at, ' ', name.size));
        uvws_text_lists(value, "upgrade");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (!size)
        return 0;
    bool is_request = input[0] & 1;
    size_t piece = 1 + (input[0] >> 1) % 40;
    const char *data = (const char *)input + 1;
    size--;
    uint32_t checked = 0;
    uint32_t checked_at_once = 0;
    enum head_verdict verdict = HEAD_PARTIAL;
    enum head_verdict at_once = uvws_head_check(data, size, is_request, &checked_at_once);
    for (size_t seen = 0; seen < size && verdict == HEAD_PARTIAL;) {
        seen = size - seen > piece ? seen + piece : size;
        verdict = uvws_head_check(data, seen, is_request, &checked);
        CHECK(checked <= seen);
    }
    CHECK(verdict == at_once);
    enum head_verdict expected = judge(input + 1, size, is_request);
    /* What cannot become a first line is refused before it ends. */
    if (expected == HEAD_PARTIAL)
        CHECK(verdict == HEAD_PARTIAL || verdict == HEAD_NOT_HTTP);
    else
        CHECK(verdict == expected);
    if (verdict == HEAD_WHOLE)
        read_out(data, size, is_request);
    return 0;
}
