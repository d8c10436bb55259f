/* lws's log lines go to Python's logging, whatever thread they come from. */
#include <string.h>

#include "uvws.h"

#define NORMAL (LLL_ERR | LLL_WARN)
#define DEBUG  (NORMAL | LLL_NOTICE | LLL_INFO)

static void emit(int level, const char *line)
{
    size_t size = strlen(line);
    while (size && (line[size - 1] == '\n' || line[size - 1] == '\r'))
        size--;
    uvws_py_log(level, line, size);
}

void uvws_set_log_level(int debug)
{
    lws_set_log_level(debug ? DEBUG : NORMAL, emit);
}
