/* The syntax of HTTP/1 heads (RFC 9112), without the leniency that it allows: every line ends with
 * CR LF, none is folded, and nothing but a tab is there of what is not printed. */
#include "head.h"

#include <string.h>
#include <strings.h>

static const char TOKEN[] = "!#$%&'*+-.^_`|~0123456789"
                            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_control(char c)
{
    return (unsigned char)c < ' ' || c == '\x7f';
}

static bool is_token(struct text text)
{
    for (size_t n = 0; n < text.size; n++)
        if (!text.at[n] || !strchr(TOKEN, text.at[n]))
            return false;
    return text.size > 0;
}

static bool has_control(struct text text, bool tab_is_fine)
{
    for (size_t n = 0; n < text.size; n++)
        if (is_control(text.at[n]) && !(tab_is_fine && text.at[n] == '\t'))
            return true;
    return false;
}

static struct text stripped(struct text text)
{
    while (text.size && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text.at++;
        text.size--;
    }
    while (text.size && (text.at[text.size - 1] == ' ' || text.at[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* Takes off what stands before the first `separator`; false where there is none. */
static bool cut(struct text *rest, char separator, struct text *before)
{
    const char *found = rest->size ? memchr(rest->at, separator, rest->size) : NULL;
    if (!found)
        return false;
    *before = (struct text){rest->at, (size_t)(found - rest->at)};
    rest->size -= before->size + 1;
    rest->at = found + 1;
    return true;
}

/* "HTTP/1.1" */
static bool read_version(struct text text, struct text *version)
{
    static const char protocol[] = "HTTP/";
    size_t size = sizeof(protocol) - 1;
    if (text.size != size + 3 || memcmp(text.at, protocol, size) != 0)
        return false;
    *version = (struct text){text.at + size, 3};
    return is_digit(version->at[0]) && version->at[1] == '.' && is_digit(version->at[2]);
}

bool uvws_request_line(struct text line, struct request_line *request)
{
    return !has_control(line, false) && cut(&line, ' ', &request->method) &&
           is_token(request->method) && cut(&line, ' ', &request->target) &&
           request->target.size > 0 && read_version(line, &request->version);
}

bool uvws_status_line(struct text line, struct status_line *response)
{
    struct text version;
    if (has_control(line, true) || !cut(&line, ' ', &version) ||
        !read_version(version, &response->version))
        return false;
    if (line.size < 3 || !is_digit(line.at[0]) || !is_digit(line.at[1]) || !is_digit(line.at[2]) ||
        (line.size > 3 && line.at[3] != ' '))
        return false;
    response->status = (line.at[0] - '0') * 100 + (line.at[1] - '0') * 10 + (line.at[2] - '0');
    response->phrase = stripped(line);
    return response->status >= 100;
}

static bool read_field(struct text line, struct text *name, struct text *value)
{
    if (!cut(&line, ':', name) || !is_token(*name))
        return false;
    *value = stripped(line);
    return !has_control(*value, true);
}

static bool is_first_line(struct text line, bool is_request)
{
    struct request_line request;
    struct status_line response;
    return is_request ? uvws_request_line(line, &request) : uvws_status_line(line, &response);
}

/* Whether this can become a first line: who speaks something else may never end it. */
static bool may_become_first_line(struct text line, bool is_request)
{
    static const char protocol[] = "HTTP/";
    size_t size = line.size < sizeof(protocol) - 1 ? line.size : sizeof(protocol) - 1;
    struct text method;
    if (!is_request)
        return !size || !memcmp(line.at, protocol, size);
    return cut(&line, ' ', &method) ? is_token(method) : !line.size || is_token(line);
}

/* `checked` is how far it was found fine the last time: whole lines; 0 at first. */
enum head_verdict uvws_head_check(const char *data, size_t size, bool is_request, uint32_t *checked)
{
    struct text rest = {data + *checked, size - *checked};
    struct text line;
    struct text name;
    struct text value;
    while (cut(&rest, '\n', &line)) {
        bool is_first = *checked == 0;
        bool has_return = line.size && line.at[line.size - 1] == '\r';
        line.size -= has_return;
        if (is_first && !(has_return && is_first_line(line, is_request)))
            return HEAD_NOT_HTTP;
        if (!is_first && has_return && !line.size) {
            *checked = 0;
            return HEAD_WHOLE;
        }
        if (!is_first && !(has_return && read_field(line, &name, &value)))
            return HEAD_MALFORMED;
        *checked = (uint32_t)(rest.at - data);
    }
    if (*checked == 0 && rest.size && rest.at[rest.size - 1] == '\r')
        rest.size--;
    return *checked || may_become_first_line(rest, is_request) ? HEAD_PARTIAL : HEAD_NOT_HTTP;
}

/* The next line of a head that was checked, without its end. */
struct text uvws_head_line(struct head *head)
{
    struct text rest = {head->at, (size_t)(head->end - head->at)};
    struct text line = {head->at, 0};
    if (cut(&rest, '\n', &line) && line.size)
        line.size--;
    head->at = rest.at;
    return line;
}

/* The next field; false at the end. */
bool uvws_head_field(struct head *head, struct text *name, struct text *value)
{
    return read_field(uvws_head_line(head), name, value);
}

bool uvws_text_is(struct text text, const char *word)
{
    return text.size == strlen(word) && strncasecmp(text.at, word, text.size) == 0;
}

/* Whether a comma-separated list has `word` in it, upper or lower case. */
bool uvws_text_lists(struct text list, const char *word)
{
    struct text item;
    while (cut(&list, ',', &item))
        if (uvws_text_is(stripped(item), word))
            return true;
    return uvws_text_is(stripped(list), word);
}

static bool each_is(struct text list, bool (*is_fine)(struct text))
{
    struct text item;
    bool more = true;
    while (more) {
        more = cut(&list, ',', &item);
        struct text element = stripped(more ? item : list);
        if (element.size && !is_fine(element)) /* empty ones are skipped: RFC 9110 section 5.6.1 */
            return false;
    }
    return true;
}

bool uvws_text_is_tokens(struct text list)
{
    return each_is(list, is_token);
}

/* A token, which may stand in quotes, its characters behind backslashes. */
static bool is_parameter_value(struct text text)
{
    if (text.size < 3 || text.at[0] != '"' || text.at[text.size - 1] != '"')
        return is_token(text);
    size_t end = text.size - 1;
    for (size_t n = 1; n < end; n++) {
        n += text.at[n] == '\\';
        if (n == end || !is_token((struct text){text.at + n, 1}))
            return false;
    }
    return true;
}

static bool is_parameter(struct text text)
{
    struct text name;
    if (!cut(&text, '=', &name))
        return is_token(stripped(text));
    return is_token(stripped(name)) && is_parameter_value(stripped(text));
}

static bool is_extension(struct text text)
{
    struct text part;
    if (!cut(&text, ';', &part))
        return is_token(text);
    if (!is_token(stripped(part)))
        return false;
    while (cut(&text, ';', &part))
        if (!is_parameter(part))
            return false;
    return is_parameter(text);
}

/* Whether it is what RFC 6455 section 9.1 has for Sec-WebSocket-Extensions. */
bool uvws_text_is_extensions(struct text list)
{
    return each_is(list, is_extension);
}

/* Whether each % begins an escape; that of a NUL is fine in a query only. */
static bool escapes_are_fine(struct text text, bool nul_is_fine)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    struct text before;
    while (cut(&text, '%', &before)) {
        if (text.size < 2 || !strchr(digits, text.at[0]) || !strchr(digits, text.at[1]))
            return false;
        if (!nul_is_fine && memcmp(text.at, "00", 2) == 0)
            return false;
    }
    return true;
}

/* How much of an absolute form ("http://host/path?query") is in front of the path; else 0. */
static size_t authority_size(struct text target)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t n = 0; n < sizeof(schemes) / sizeof(schemes[0]); n++) {
        size_t size = strlen(schemes[n]);
        if (target.size <= size || strncasecmp(target.at, schemes[n], size) != 0)
            continue;
        while (size < target.size && target.at[size] != '/' && target.at[size] != '?')
            size++;
        return size;
    }
    return 0;
}

/* The origin form, or the absolute form, which a server must take too (RFC 9112 section 3.2). */
bool uvws_target_is_fine(struct text target)
{
    if (target.at[0] != '/' && !authority_size(target))
        return false;
    struct text path;
    struct text query;
    uvws_target_split(target, &path, &query);
    return escapes_are_fine(path, false) && escapes_are_fine(query, true);
}

void uvws_target_split(struct text target, struct text *path, struct text *query)
{
    size_t skipped = authority_size(target);
    *query = (struct text){target.at + skipped, target.size - skipped};
    if (!cut(query, '?', path)) {
        *path = *query;
        *query = (struct text){NULL, 0};
    }
    if (!path->size)
        *path = (struct text){"/", 1};
}
