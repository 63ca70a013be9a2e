/*
 * mail.c - hands a mail to the way out that the command line chose.
 *
 * Called by the workers.  struct mail never changes after main() made it; a struct
 * mail_way belongs to one thread.
 */
#include "mail.h"

#include <stdlib.h>
#include <string.h>

struct mail {
    const struct mail_kind *kind;
    char *target;
};

struct mail *mail_new(const struct mail_kind *kind, const char *target)
{
    struct mail *mail = calloc(1, sizeof(*mail));
    if (!mail)
        return NULL;
    mail->kind = kind;
    mail->target = strdup(target);
    if (mail->target)
        return mail;
    free(mail);
    return NULL;
}

void mail_free(struct mail *mail)
{
    if (!mail)
        return;
    free(mail->target);
    free(mail);
}

struct mail_way *mail_open(const struct mail *mail)
{
    return mail->kind->open(mail->target);
}

enum mail_result mail_send(const struct mail *mail, struct mail_way *way,
                           const struct mail_message *message, struct mail_error *error)
{
    size_t len;
    char *text = mail_compose(message, &len);
    if (!text) {
        *error = (struct mail_error){.text = "out of memory"};
        return MAIL_DOWN;
    }
    enum mail_result result =
        mail->kind->send(way, message->key, message->to, text, len, error);
    free(text);
    return result;
}

void mail_close(const struct mail *mail, struct mail_way *way)
{
    mail->kind->close(way);
}

int mail_address_valid(const char *address)
{
    size_t len = strlen(address);
    const char *at = strchr(address, '@');
    if (len > 254 || !at || at == address || !at[1] || strchr(at + 1, '@'))
        return 0;
    for (const char *c = address; *c; c++) {
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f ||
            strchr("<>()\",;:\\", *c))
            return 0;
    }
    return 1;
}
