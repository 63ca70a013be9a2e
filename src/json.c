/* json.c - jansson, fenced in: depth at most 64, no duplicate keys, errors with a
 * position.
 *
 * Called by publishers and by workers inside a handler, any thread; one json_t belongs to
 * one thread.  jansson 2.14 limits depth when it loads (2048, too deep for small stacks)
 * but not when it dumps or copies, so depth is checked here on the way in and on the way
 * out.  Never used to rewrite a body: a body is bytes, and JSON is only one view of it.
 */
#include "json.h"

#include "err.h"

#include <stdlib.h>
#include <string.h>

struct position {
    size_t line, column;
};

/* Line and column of the byte before OFFSET, the last one of what is complained about. */
static struct position locate(const char *text, size_t len, size_t offset)
{
    struct position pos = {.line = 1, .column = 0};
    if (offset > len)
        offset = len;
    for (size_t i = 0; i < offset; i++) {
        if (i > 0 && text[i - 1] == '\n') {
            pos.line++;
            pos.column = 0;
        }
        pos.column++;
    }
    if (pos.column == 0)
        pos.column = 1;
    return pos;
}

/* Offset just behind the bracket that goes one too deep, 0 when none does.  Strings are
 * stepped over; whether the rest is JSON is jansson's business. */
static size_t too_deep(const char *text, size_t len)
{
    int depth = 0, in_string = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = 0;
        } else if (c == '"') {
            in_string = 1;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_DEPTH_MAX)
                return i + 1;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return 0;
}

static int refuse_at(const char *text, size_t len, size_t offset, const char *reason,
                     struct bgmq_error *error)
{
    struct position pos = locate(text, len, offset);
    return bgmqi_err_set(error, BGMQ_EJSON, "line %zu column %zu: %s", pos.line,
                         pos.column, reason);
}

int bgmqi_json_parse(const void *text, size_t len, json_t **ret, struct bgmq_error *error)
{
    size_t offset = too_deep(text, len);
    if (offset)
        return refuse_at(text, len, offset, "nested more than 64 levels deep", error);
    json_error_t e;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (value) {
        *ret = value;
        return 0;
    }
    if (json_error_code(&e) == json_error_out_of_memory)
        return bgmqi_err_set(error, BGMQ_ENOMEM, "out of memory");
    return refuse_at(text, len, e.position > 0 ? (size_t)e.position : 0, e.text, error);
}

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

/* Writes VALUE, which it gives back, as compact ASCII. */
static int dump(json_t *value, char **ret_text, size_t *ret_len, struct bgmq_error *error)
{
    if (!shallow(value, JSON_DEPTH_MAX)) {
        json_decref(value);
        return bgmqi_err_set(error, BGMQ_EJSON, "nested more than %d levels deep",
                             JSON_DEPTH_MAX);
    }
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);
    json_decref(value);
    if (!text)
        return bgmqi_err_set(error, BGMQ_ENOMEM, "out of memory");
    *ret_len = strlen(text);
    *ret_text = text;
    return 0;
}

int bgmqi_json_pack(char **ret_text, size_t *ret_len, struct bgmq_error *error,
                    const char *format, va_list args)
{
    va_list copy;
    va_copy(copy, args);
    int negative = negative_length(format, copy, 0);
    va_end(copy);
    if (negative) {
        va_copy(copy, args);
        negative_length(format, copy, 1);
        va_end(copy);
        return bgmqi_err_set(error, BGMQ_EJSON, "a length in the format is negative");
    }
    json_error_t e;
    va_copy(copy, args);
    json_t *value = json_vpack_ex(&e, 0, format, copy);
    va_end(copy);
    if (value)
        return dump(value, ret_text, ret_len, error);
    if (json_error_code(&e) == json_error_out_of_memory)
        return bgmqi_err_set(error, BGMQ_ENOMEM, "out of memory");
    return bgmqi_err_set(error, BGMQ_EJSON, "format column %d: %s", e.column, e.text);
}
