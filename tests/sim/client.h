/* client.h - what the clients of a simulated service do, each operation by chance. */
#ifndef BGMQ_TEST_CLIENT_H
#define BGMQ_TEST_CLIENT_H

#include "life.h"

/* Does one operation. */
void client_operate(struct life *l);
/* Publishes a message, within a handler, too. */
void client_publish(struct life *l);

#endif
