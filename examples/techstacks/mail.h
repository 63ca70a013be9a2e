/* mail.h - mails, and the ways they go out. */
#ifndef TECHSTACKS_MAIL_H
#define TECHSTACKS_MAIL_H

#include <stddef.h>

/* What became of one mail. */
enum mail_result {
    MAIL_SENT,
    MAIL_LATER,   /* not now, for this recipient: worth another try */
    MAIL_DOWN,    /* not now, for nobody: the server, or the disk, does not work */
    MAIL_REFUSED, /* never, for this recipient */
};

/* One line, why a mail was not sent. */
struct mail_error {
    char text[200];
};

/* All strings are lent for the call. */
struct mail_message {
    const char *key; /* names it in files and in its Message-ID: letters, digits, '-' */
    const char *from_name; /* may be "" */
    const char *to_name;   /* may be "" */
    const char *to;        /* address, as mail_address_valid wants it */
    const char *subject;
    const char *html;
};

/* A kind of way out.  TARGET is a folder or a URL. */
struct mail_way;
struct mail_kind {
    struct mail_way *(*open)(const char *target); /* NULL: out of memory */
    /* TEXT is the whole mail with CRLF line ends. */
    enum mail_result (*send)(struct mail_way *way, const char *key, const char *to,
                             const char *text, size_t len, struct mail_error *error);
    void (*close)(struct mail_way *way); /* NULL is allowed */
};

extern const struct mail_kind mail_outbox; /* files in a folder */
extern const struct mail_kind mail_smtp;   /* a mail server */

/* Where the server's own mails come from and go to. */
#define MAIL_FROM_ADDRESS   "notifications@techstacks.example"
#define MAIL_SYSTEM_ADDRESS "system@techstacks.example"

struct mail;

/* Copies TARGET.  NULL: out of memory. */
struct mail *mail_new(const struct mail_kind *kind, const char *target);
void mail_free(struct mail *mail);

/* Opens a way out for this thread alone: one connection, however many mails.  NULL: out
 * of memory. */
struct mail_way *mail_open(const struct mail *mail);
enum mail_result mail_send(const struct mail *mail, struct mail_way *way,
                           const struct mail_message *message, struct mail_error *error);
void mail_close(const struct mail *mail, struct mail_way *way);

/* 1 when ADDRESS looks like name@host and holds nothing that could end a line or a
 * command. */
int mail_address_valid(const char *address);

/* Returns the mail as text with CRLF line ends, to free(); NULL: out of memory. */
char *mail_compose(const struct mail_message *message, size_t *ret_len);

#endif
