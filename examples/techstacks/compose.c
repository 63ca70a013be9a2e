/*
 * compose.c - a mail as text: header lines, then HTML as quoted-printable.
 *
 * Called by mail_send.  Names and subjects were written by strangers: nothing of them may
 * end a header line, so what is not plain ASCII is encoded, line ends included.
 * Quoted-printable keeps every line short and readable, whatever the text.
 */
#include "mail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int plain(const char *text)
{
    for (; *text; text++) {
        if (*text < 0x20 || *text >= 0x7f || strchr("\"\\=?<>@,;:", *text))
            return 0;
    }
    return 1;
}

/* An "encoded word" holds at most 75 characters, and whole UTF-8 characters; more of them
 * follow, each on a line of its own. */
static void put_encoded(FILE *out, const char *text)
{
    static const char open[] = "=?UTF-8?Q?";
    int used = 0;
    fputs(open, out);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        int starts = (c & 0xc0) != 0x80;
        if (starts && used > 48) {
            fprintf(out, "?=\r\n %s", open);
            used = 0;
        }
        int alone =
            (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        used += alone ? fprintf(out, "%c", c) : fprintf(out, "=%02X", c);
    }
    fputs("?=", out);
}

static void put_phrase(FILE *out, const char *text)
{
    if (plain(text) && strlen(text) <= 60)
        fprintf(out, "\"%s\"", text);
    else
        put_encoded(out, text);
}

static void put_subject(FILE *out, const char *text)
{
    fputs("Subject: ", out);
    if (plain(text) && strlen(text) <= 60)
        fputs(text, out);
    else
        put_encoded(out, text);
    fputs("\r\n", out);
}

static void put_address(FILE *out, const char *label, const char *name,
                        const char *address)
{
    fprintf(out, "%s: ", label);
    if (*name) {
        put_phrase(out, name);
        fputc(' ', out);
    }
    fprintf(out, "<%s>\r\n", address);
}

/* The date as mails write it, whatever the locale. */
static void put_date(FILE *out)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    fprintf(out, "Date: %s, %02d %s %d %02d:%02d:%02d +0000\r\n", days[tm.tm_wday],
            tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
            tm.tm_sec);
}

static void put_body(FILE *out, const char *text)
{
    int column = 0;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '\n') {
            fputs("\r\n", out);
            column = 0;
            continue;
        }
        if (column > 70) {
            fputs("=\r\n", out);
            column = 0;
        }
        int ends = text[1] == '\n' || text[1] == '\0';
        int bare = (c > 0x20 && c < 0x7f && c != '=') || (c == ' ' && !ends);
        column += bare ? fprintf(out, "%c", c) : fprintf(out, "=%02X", c);
    }
    fputs("\r\n", out);
}

char *mail_compose(const struct mail_message *message, size_t *ret_len)
{
    char *result = NULL;
    size_t len;
    FILE *out = open_memstream(&result, &len);
    if (!out)
        return NULL;
    put_date(out);
    put_address(out, "From", message->from_name, MAIL_FROM_ADDRESS);
    put_address(out, "To", message->to_name, message->to);
    put_subject(out, message->subject);
    /* The same for each copy of the same mail, so that a reader can tell a second one. */
    fprintf(out, "Message-ID: <%s@techstacks.example>\r\n", message->key);
    fputs("MIME-Version: 1.0\r\n"
          "Content-Type: text/html; charset=utf-8\r\n"
          "Content-Transfer-Encoding: quoted-printable\r\n\r\n",
          out);
    put_body(out, message->html);
    int failed = ferror(out);
    if (fclose(out) || failed) {
        free(result);
        return NULL;
    }
    *ret_len = len;
    return result;
}
