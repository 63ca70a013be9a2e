/* events.h - which mail an event makes, and who gets it. */
#ifndef TECHSTACKS_EVENTS_H
#define TECHSTACKS_EVENTS_H

#include <sqlite3.h>
#include <stdint.h>

enum event_err {
    EVENT_UNKNOWN = -10, /* no event of that name */
    EVENT_GONE = -11     /* what it is about is not there */
};

/* Renders the mail of EVENT about row REF_ID, and stores it and its recipients as those
 * of NOTIFICATION.  Runs in the caller's transaction.  0, an enum db_err or an enum
 * event_err. */
int event_render(sqlite3 *sq, const char *event, int64_t ref_id, int64_t notification);

#endif
