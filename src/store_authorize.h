/* store_authorize.h - what the statements of our connections may do. */
#ifndef BGMQI_STORE_AUTHORIZE_H
#define BGMQI_STORE_AUTHORIZE_H

#include <sqlite3.h>

/* From here on DB compiles no statement that does more than ours have to.  In builds with
 * assertions, which the default one has: all SQL here is constant, so others do without. */
void bgmqi_store_authorize(sqlite3 *db);
/* DB, one of ours, reads every table there is: those of an application in the same file, too. */
void bgmqi_store_authorize_all(sqlite3 *db);

#endif
