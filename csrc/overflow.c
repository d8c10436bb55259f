/* What becomes of a message that the send queue has no room for: docs/limits.md. */
#include "uvws.h"

#define TRY_AGAIN_LATER 1013

/* What is queued is given up, all but the rest of a frame that has begun, or there could be no
 * Close frame: who does not read it will not read it either. */
static void end(uvws_connection *connection)
{
    static const char why[] = "send queue full";
    uvws_event(connection->context, UVWS_EVENT_SEND_QUEUE_FULL, connection->slot,
               (int64_t)connection->limits.max_send_queue, 0, 0);
    connection->refused = true;
    uvws_tx_clear_but_begun(connection);
    uvws_connection_close(connection, TRY_AGAIN_LATER, why);
}

/* Positive: it is queued nevertheless; 0: it is dropped; negative: it is refused. */
int uvws_overflow(uvws_connection *connection)
{
    switch (connection->limits.on_send_overflow) {
    case UVWS_OVERFLOW_PAUSE:
        uvws_connection_set_clogged(connection, true);
        return 1;
    case UVWS_OVERFLOW_CLOSE:
        end(connection);
        return 0;
    default:
        return UVWS_QUEUE_FULL;
    }
}
