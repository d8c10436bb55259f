/*
 * What large messages cost: memory that the system has just given is touched page by page for the
 * first time, which takes longer than filling it.
 *
 * glibc returns a freed block to the system as soon as 128 KiB at the end of the heap are unused,
 * and gets a larger one from there each time. Both limits grow with the largest block that is
 * freed, to 32 MiB at most: that a program which handles large blocks will go on doing so is its
 * own rule. This makes the rule apply from the first large message on. Other allocators take no
 * notice.
 */
#include <stdlib.h>

#include "uvws.h"

#define BLOCKS   16 /* that many messages come and go at a time */
#define SMALLEST (2 * 1024 * 1024)
#define LARGEST  (31 * 1024 * 1024)

void uvws_heap_expect(uvws_context *context, size_t size)
{
    if (size <= context->heap_expects)
        return;
    context->heap_expects = size * 2;
    size_t block = size > LARGEST / BLOCKS ? LARGEST : size * BLOCKS;
    /* volatile, or the compiler would see that nothing comes of it. */
    void *volatile memory = malloc(block < SMALLEST ? SMALLEST : block);
    free(memory);
}
