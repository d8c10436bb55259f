/* A growable block of memory. */
#include <stdlib.h>
#include <string.h>

#include "uvws.h"

bool uvws_buffer_reserve(struct buffer *buffer, size_t capacity)
{
    if (capacity <= buffer->capacity)
        return true;
    char *data = realloc(buffer->data, capacity);
    if (!data)
        return false;
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

bool uvws_buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    size_t needed = buffer->size + size;
    if (needed > buffer->capacity) {
        size_t doubled = buffer->capacity * 2;
        if (!uvws_buffer_reserve(buffer, needed > doubled ? needed : doubled))
            return false;
    }
    if (size)
        memcpy(buffer->data + buffer->size, data, size);
    buffer->size = needed;
    return true;
}

void uvws_buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}
