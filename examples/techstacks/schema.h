/* schema.h - the tables, and the demo data of an empty database. */
#ifndef TECHSTACKS_SCHEMA_H
#define TECHSTACKS_SCHEMA_H

#include <sqlite3.h>

/* Makes what is missing, in one transaction.  Returns 0, or -1 with the reason on stderr.
 */
int schema_prepare(sqlite3 *sq);

#endif
