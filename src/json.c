/* json.c - what is packed by jansson, fenced in: depth at most 64, no length that is negative.
 *
 * Called by publishers and by workers inside a handler, any thread; one json_t belongs to one
 * thread.  jansson 2.14 limits depth when it loads but not when it dumps or copies, so depth is
 * checked here on the way out; on the way in by json_parse.c. */
#include "json.h"

#include "err.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Goes through the arguments as jansson would.  Returns 1 when a length (#) is negative,
 * which jansson 2.14 takes for a huge one.  With RELEASE gives back the references that
 * the format "o" hands over, as jansson does when it fails. */
static int negative_length(const char *format, va_list args, int release)
{
    int negative = 0;
    for (const char *f = format; *f; f++) {
        switch (*f) {
        case 's':
        case '+':
            (void)va_arg(args, const char *);
            break;
        case '#':
            negative |= va_arg(args, int) < 0;
            break;
        case '%':
            (void)va_arg(args, size_t);
            break;
        case 'b':
        case 'i':
            (void)va_arg(args, int);
            break;
        case 'I':
            (void)va_arg(args, json_int_t);
            break;
        case 'f':
            (void)va_arg(args, double);
            break;
        case 'O':
            (void)va_arg(args, json_t *);
            break;
        case 'o': {
            json_t *value = va_arg(args, json_t *);
            if (release)
                json_decref(value);
            break;
        }
        default: /* brackets, spaces, n, ?, *: no argument */
            break;
        }
    }
    return negative;
}

/* 1 when VALUE nests at most LEVELS deep.  The recursion is as deep as the limit at most,
 * even for a value that contains itself. */
static int shallow(json_t *value, int levels)
{
    if (!json_is_array(value) && !json_is_object(value))
        return 1;
    if (levels == 0)
        return 0;
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!shallow(json_array_get(value, i), levels - 1))
            return 0;
    for (void *i = json_object_iter(value); i; i = json_object_iter_next(value, i))
        if (!shallow(json_object_iter_value(i), levels - 1))
            return 0;
    return 1;
}

/* json_dumps of 2.14 leaves out a key, or a part of it, for which its text finds no room, and goes
 * on (https://github.com/akheron/jansson/issues/655).  So the text is measured first and then
 * written into room that it cannot exceed; each time jansson takes memory of its own, and says when
 * it has none. */
char *bgmqi_json_text(const json_t *value, size_t flags, size_t *ret_len)
{
    flags |= JSON_COMPACT | JSON_ENCODE_ANY;
    size_t len = json_dumpb(value, NULL, 0, flags);
    char *text = len ? malloc(len + 1) : NULL;
    if (!text)
        return NULL;
    if (json_dumpb(value, text, len, flags) != len) {
        free(text);
        return NULL;
    }
    text[len] = '\0';
    if (ret_len)
        *ret_len = len;
    return text;
}

/* Writes VALUE, which it gives back, as compact ASCII. */
static int dump(json_t *value, char **ret_text, size_t *ret_len, struct bgmq_error *error)
{
    if (!shallow(value, JSON_DEPTH_MAX)) {
        json_decref(value);
        return bgmqi_err_set(error, BGMQ_EJSON, "nested more than %d levels deep",
                             JSON_DEPTH_MAX);
    }
    char *text = bgmqi_json_text(value, JSON_ENSURE_ASCII, ret_len);
    json_decref(value);
    if (!text)
        return bgmqi_err_set(error, BGMQ_ENOMEM, "out of memory");
    *ret_text = text;
    return 0;
}

/* A whole that may be left out is nothing to be written. */
static bool is_optional(const char *format)
{
    format += strspn(format, " \t\n,:");
    return *format && strchr("soO", *format) && strchr(format, '*');
}

/* Whether E, of a pack that failed, is for want of memory.  2.14 has no words for a string that
 * finds none, and then its own for a value that is not there; of a NULL argument it has others. */
static bool lacked_memory(const json_error_t *e)
{
    return e->text[0] == '\0' || json_error_code(e) == json_error_out_of_memory ||
           strcmp(e->text, "NULL object value") == 0;
}

int bgmqi_json_pack(char **ret_text, size_t *ret_len, struct bgmq_error *error,
                    const char *format, va_list args)
{
    va_list copy;
    va_copy(copy, args);
    int negative = negative_length(format, copy, 0);
    va_end(copy);
    if (negative || is_optional(format)) {
        va_copy(copy, args);
        negative_length(format, copy, 1);
        va_end(copy);
        return bgmqi_err_set(error, BGMQ_EJSON, "%s",
                             negative ? "a length in the format is negative"
                                      : "the whole is optional in the format");
    }
    json_error_t e = {.text = ""};
    va_copy(copy, args);
    json_t *value = json_vpack_ex(&e, 0, format, copy);
    va_end(copy);
    if (value)
        return dump(value, ret_text, ret_len, error);
    if (lacked_memory(&e))
        return bgmqi_err_set(error, BGMQ_ENOMEM, "out of memory");
    return bgmqi_err_set(error, BGMQ_EJSON, "format column %d: %s", e.column, e.text);
}
