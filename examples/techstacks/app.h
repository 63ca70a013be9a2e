/* app.h - what the parts of the server share: made by main() before the first thread of
 * anybody, read only afterwards. */
#ifndef TECHSTACKS_APP_H
#define TECHSTACKS_APP_H

struct bgmq;
struct db;
struct mail;
struct pause;

struct app {
    struct bgmq *mq;
    struct db *db;
    struct mail *mail;
    struct pause *pause;
    unsigned send_delay_ms;
    unsigned retry_ms;
};

#endif
