/*
 * smtp.c - mails to a mail server, by libcurl.
 *
 * Called by the workers.  A struct mail_way keeps its connection from one mail to the
 * next. Every wait has an end: a server that does not answer counts as down.  The
 * server's "4.." is "later", its "5.." is "never"; all else (no connection, a time-out,
 * an answer nobody understands) leaves open whether the mail went out, and is tried
 * again: twice at worst, never not at all.
 */
#include "mail.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mail_way {
    CURL *curl;
    char reason[CURL_ERROR_SIZE];
    char reply[160]; /* the server's last line that said no, without its end */
    const char *text;
    size_t left;
};

static size_t give_text(char *buffer, size_t size, size_t count, void *ctx)
{
    struct mail_way *way = ctx;
    size_t n = size * count < way->left ? size * count : way->left;
    memcpy(buffer, way->text, n);
    way->text += n;
    way->left -= n;
    return n;
}

/* libcurl gives each line of the server.  After a "no" it says QUIT, whose answer is not
 * what we want to tell. */
static size_t keep_reply(char *line, size_t size, size_t count, void *ctx)
{
    struct mail_way *way = ctx;
    size_t n = size * count;
    if (n == 0 || (line[0] != '4' && line[0] != '5'))
        return n;
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n'))
        n--;
    snprintf(way->reply, sizeof(way->reply), "%.*s", (int)(n < 150 ? n : 150), line);
    return size * count;
}

static void smtp_close(struct mail_way *way)
{
    if (!way)
        return;
    curl_easy_cleanup(way->curl);
    free(way);
}

static struct mail_way *smtp_open(const char *target)
{
    struct mail_way *way = calloc(1, sizeof(*way));
    if (!way)
        return NULL;
    way->curl = curl_easy_init();
    if (!way->curl)
        goto fail;
    curl_easy_setopt(way->curl, CURLOPT_URL, target);
    curl_easy_setopt(way->curl, CURLOPT_PROTOCOLS_STR, "smtp");
    curl_easy_setopt(way->curl, CURLOPT_PROXY, ""); /* whatever the environment says */
    curl_easy_setopt(way->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(way->curl, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
    curl_easy_setopt(way->curl, CURLOPT_SERVER_RESPONSE_TIMEOUT, 10L);
    curl_easy_setopt(way->curl, CURLOPT_TIMEOUT_MS, 15000L);
    curl_easy_setopt(way->curl, CURLOPT_MAIL_FROM, "<" MAIL_FROM_ADDRESS ">");
    curl_easy_setopt(way->curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(way->curl, CURLOPT_ERRORBUFFER, way->reason);
    curl_easy_setopt(way->curl, CURLOPT_READFUNCTION, give_text);
    curl_easy_setopt(way->curl, CURLOPT_READDATA, way);
    curl_easy_setopt(way->curl, CURLOPT_HEADERFUNCTION, keep_reply);
    curl_easy_setopt(way->curl, CURLOPT_HEADERDATA, way);
    return way;
fail:
    smtp_close(way);
    return NULL;
}

static enum mail_result judge(struct mail_way *way, CURLcode code,
                              struct mail_error *error)
{
    long reply = 0;
    if (code == CURLE_OK)
        return MAIL_SENT;
    curl_easy_getinfo(way->curl, CURLINFO_RESPONSE_CODE, &reply);
    int refused = reply >= 400 && reply <= 599;
    const char *text = refused && way->reply[0] ? way->reply : way->reason;
    snprintf(error->text, sizeof(error->text), "mail server: %.170s",
             *text ? text : curl_easy_strerror(code));
    if (!refused || reply == 421) /* 421: "closing the connection", whoever it was for */
        return MAIL_DOWN;
    return reply < 500 ? MAIL_LATER : MAIL_REFUSED;
}

static enum mail_result smtp_send(struct mail_way *way, const char *key, const char *to,
                                  const char *text, size_t len, struct mail_error *error)
{
    char address[260];
    snprintf(address, sizeof(address), "<%s>", to);
    struct curl_slist *recipients = curl_slist_append(NULL, address);
    if (!recipients) {
        snprintf(error->text, sizeof(error->text), "out of memory");
        return MAIL_DOWN;
    }
    way->text = text;
    way->left = len;
    way->reply[0] = way->reason[0] = '\0';
    curl_easy_setopt(way->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)len);
    curl_easy_setopt(way->curl, CURLOPT_MAIL_RCPT, recipients);
    CURLcode code = curl_easy_perform(way->curl);
    curl_easy_setopt(way->curl, CURLOPT_MAIL_RCPT, NULL);
    curl_slist_free_all(recipients);
    return judge(way, code, error);
}

const struct mail_kind mail_smtp = {
    .open = smtp_open, .send = smtp_send, .close = smtp_close};
