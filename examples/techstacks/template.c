/*
 * template.c - text with {{names}} in it.
 *
 * Called while a mail is rendered.  What is put in was written by strangers and is read
 * in a mail program: it is escaped so that it can stand between tags and in quoted
 * attributes. Only what was rendered already may go in with three braces.
 */
#include "template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        case '\'':
            fputs("&#39;", out);
            break;
        default:
            fputc(*text, out);
        }
    }
}

static void put_value(FILE *out, const json_t *value, int raw)
{
    if (json_is_integer(value))
        fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_string(value) && raw)
        fputs(json_string_value(value), out);
    else if (json_is_string(value))
        put_escaped(out, json_string_value(value));
}

/* TEXT is behind two braces.  Writes the value of the name there and returns what follows
 * its closing braces; NULL when there are none. */
static const char *put_name(FILE *out, const char *text, const json_t *values)
{
    int raw = *text == '{';
    const char *name = text + raw;
    const char *end = strstr(name, raw ? "}}}" : "}}");
    char key[64];
    if (!end || (size_t)(end - name) >= sizeof(key))
        return NULL;
    memcpy(key, name, (size_t)(end - name));
    key[end - name] = '\0';
    put_value(out, json_object_get(values, key), raw);
    return end + 2 + raw;
}

char *template_render(const char *text, const json_t *values)
{
    char *result = NULL;
    size_t len;
    FILE *out = open_memstream(&result, &len);
    if (!out)
        return NULL;
    const char *brace;
    while (text && (brace = strstr(text, "{{"))) {
        fwrite(text, 1, (size_t)(brace - text), out);
        text = put_name(out, brace + 2, values);
    }
    if (text)
        fputs(text, out);
    int failed = ferror(out);
    if (fclose(out) || failed) {
        free(result);
        return NULL;
    }
    return result;
}
