/* service.h - the life of a service. */
#ifndef BGMQI_SERVICE_H
#define BGMQI_SERVICE_H

#include <bgmq.h>

#include "clock.h"

/* Opens with a clock of the caller's: what bgmq_open does with the system's. */
int bgmqi_service_open(struct bgmq **ret, const struct bgmq_options *options,
                       const struct clock *clock, struct bgmq_error *error);
#endif
