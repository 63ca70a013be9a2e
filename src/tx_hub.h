/* tx_hub.h - what stands between a service and the connections of the application that know it.
 *
 * Each may go first: a connection keeps a reference to the hub, and the hub knows the service
 * until that is closed.  Whoever comes from a connection enters; the service leaves when nobody
 * is inside. */
#ifndef BGMQI_TX_HUB_H
#define BGMQI_TX_HUB_H

#include <sqlite3.h>

#include "handle.h"

struct tx_conn;

/* For the service MQ, whose database is PATH.  EOPEN: PATH is not there; ENOMEM. */
int bgmqi_tx_hub_new(struct tx_hub **ret, struct bgmq *mq, const char *path);
/* The service closes: nobody enters any more, and those inside have left.  NULL is allowed. */
void bgmqi_tx_hub_close(struct tx_hub *h);
struct tx_hub *bgmqi_tx_hub_ref(struct tx_hub *h);
void bgmqi_tx_hub_unref(struct tx_hub *h); /* NULL is allowed */

/* The service, which stays as it is until the matching leave; NULL: it is closed, and there is
 * nothing to leave. */
struct bgmq *bgmqi_tx_hub_enter(struct tx_hub *h);
void bgmqi_tx_hub_leave(struct tx_hub *h);

/* True when PATH is the file of the service. */
bool bgmqi_tx_hub_is_file(const struct tx_hub *h, const char *path);

/* The connections of the hub, by their handle. */
struct tx_conn *bgmqi_tx_hub_find(struct tx_hub *h, const sqlite3 *db);
void bgmqi_tx_hub_add(struct tx_hub *h, struct tx_conn *c);
void bgmqi_tx_hub_remove(struct tx_hub *h, struct tx_conn *c);

#endif
