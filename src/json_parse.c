/* json_parse.c - reads JSON into values of jansson: at most 64 levels, no key twice, errors with a
 * position.
 *
 * Called by publishers and by workers inside a handler, any thread; one json_t belongs to one
 * thread.  Jansson's own reader is not used: 2.14 drops a byte of a long string or number when it
 * finds no memory for it, then takes what is left for the value, reads behind its end, or blames
 * the text.  Here memory is asked for by jansson's constructors and once for the text, and each
 * says when there is none.  What is let in is the same.  Never used to rewrite a body: a body is
 * bytes, and JSON is only one view of it. */
#include "json.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "utf8.h"

enum { END = -1 };

struct reader {
    const char *text;
    size_t len, at;
    /* Strings without their escapes, one behind the other, as long as they are needed.  None is
     * longer than its text, quotes included, so there is room for all. */
    char *room;
    size_t used;
    int depth;
    const char *why; /* of a text that is refused; NULL: memory is lacking */
};

/* ---- what is refused ---------------------------------------------------------------- */

/* The byte before BEHIND is the last one of what is complained about.  Returns NULL, which is
 * false to those who ask for that. */
static json_t *refuse(struct reader *r, size_t behind, const char *why)
{
    r->at = behind < r->len ? behind : r->len;
    r->why = why;
    return NULL;
}

/* What comes is not WHAT. */
static json_t *miss(struct reader *r, const char *what)
{
    return refuse(r, r->at + 1, what);
}

static int tell(const struct reader *r, struct bgmq_error *error)
{
    size_t line = 1, column = 0;
    if (!r->why)
        return bgmqi_err_set(error, BGMQ_ENOMEM, "out of memory");
    for (size_t i = 0; i < r->at; i++) {
        if (i > 0 && r->text[i - 1] == '\n') {
            line++;
            column = 0;
        }
        column++;
    }
    return bgmqi_err_set(error, BGMQ_EJSON, "line %zu column %zu: %s", line,
                         column ? column : 1, r->why);
}

/* ---- bytes -------------------------------------------------------------------------- */

static int look(const struct reader *r)
{
    return r->at < r->len ? (unsigned char)r->text[r->at] : END;
}

/* The byte that comes after spaces. */
static int next(struct reader *r)
{
    int c;
    while ((c = look(r)) == ' ' || c == '\t' || c == '\n' || c == '\r')
        r->at++;
    return c;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* ---- strings ------------------------------------------------------------------------ */

static void put(struct reader *r, unsigned c)
{
    r->room[r->used++] = (char)c;
}

static void put_utf8(struct reader *r, unsigned c)
{
    if (c < 0x80) {
        put(r, c);
        return;
    }
    if (c < 0x800) {
        put(r, 0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            put(r, 0xe0 | c >> 12);
        } else {
            put(r, 0xf0 | c >> 18);
            put(r, 0x80 | (c >> 12 & 0x3f));
        }
        put(r, 0x80 | (c >> 6 & 0x3f));
    }
    put(r, 0x80 | (c & 0x3f));
}

static int hex_digit(int c)
{
    return is_digit(c)            ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The number in "\uXXXX", which comes; -1: it does not. */
static int read_unit(struct reader *r)
{
    int unit = 0;
    for (int i = 0; i < 6; i++, r->at++) {
        int c = look(r), digit = hex_digit(c);
        if (i < 2 ? c != "\\u"[i] : digit < 0)
            return -1;
        unit = i < 2 ? 0 : unit << 4 | digit;
    }
    return unit;
}

static bool read_unicode(struct reader *r)
{
    int unit = read_unit(r), low = 0;
    if (unit >= 0xd800 && unit <= 0xdbff) {
        low = read_unit(r);
        if (low < 0xdc00 || low > 0xdfff)
            unit = -1;
    } else if (unit >= 0xdc00 && unit <= 0xdfff) {
        unit = -1;
    }
    if (unit <= 0)
        return miss(r, unit < 0 ? "invalid Unicode escape" : "\\u0000 is not allowed");
    put_utf8(r,
             low ? 0x10000u + ((unsigned)(unit - 0xd800) << 10) + (unsigned)(low - 0xdc00)
                 : (unsigned)unit);
    return true;
}

static bool read_escape(struct reader *r)
{
    static const char names[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    int c = r->at + 1 < r->len ? r->text[r->at + 1] : END;
    if (c == 'u')
        return read_unicode(r);
    const char *name = c > 0 ? strchr(names, c) : NULL;
    if (!name)
        return refuse(r, r->at + 2, "invalid escape");
    put(r, (unsigned char)means[name - names]);
    r->at += 2;
    return true;
}

/* A string, whose quote comes, goes to the room, a NUL after it, which is not counted. */
static bool read_string(struct reader *r)
{
    int c;
    r->at++;
    while ((c = look(r)) != '"') {
        if (c == '\\') {
            if (!read_escape(r))
                return false;
            continue;
        }
        if (c < 0x20)
            return miss(r, c == END ? "the string does not end" : "control character");
        size_t n = bgmqi_utf8_char(r->text + r->at, r->len - r->at);
        if (n == 0)
            return miss(r, "not UTF-8");
        memcpy(r->room + r->used, r->text + r->at, n);
        r->used += n;
        r->at += n;
    }
    r->at++;
    r->room[r->used] = '\0';
    return true;
}

static json_t *string(struct reader *r)
{
    size_t start = r->used;
    if (!read_string(r))
        return NULL;
    json_t *value = json_stringn_nocheck(r->room + start, r->used - start);
    r->used = start;
    return value;
}

/* ---- numbers and words -------------------------------------------------------------- */

/* False: none came. */
static bool pass_digits(struct reader *r)
{
    size_t start = r->at;
    while (is_digit(look(r)))
        r->at++;
    return r->at > start;
}

static json_t *integer(struct reader *r, const char *text)
{
    errno = 0;
    long long n = strtoll(text, NULL, 10);
    if (errno == ERANGE)
        return refuse(r, r->at, "integer out of range");
    return json_integer(n);
}

/* As the language has it, whatever the application's locale. */
static json_t *real(struct reader *r, const char *text)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", NULL);
    if (!c)
        return NULL;
    double n = strtod_l(text, NULL, c);
    freelocale(c);
    if (isinf(n))
        return refuse(r, r->at, "real number out of range");
    return json_real(n);
}

static json_t *number(struct reader *r)
{
    size_t start = r->at;
    bool whole = true, zero;
    if (look(r) == '-')
        r->at++;
    zero = look(r) == '0';
    size_t digits = r->at;
    if (!pass_digits(r) || (zero && r->at > digits + 1))
        return miss(r, "invalid number");
    if (look(r) == '.') {
        whole = false;
        r->at++;
        if (!pass_digits(r))
            return miss(r, "invalid number");
    }
    if (look(r) == 'e' || look(r) == 'E') {
        whole = false;
        r->at++;
        if (look(r) == '+' || look(r) == '-')
            r->at++;
        if (!pass_digits(r))
            return miss(r, "invalid number");
    }
    char *text = r->room + r->used;
    memcpy(text, r->text + start, r->at - start);
    text[r->at - start] = '\0';
    return whole ? integer(r, text) : real(r, text);
}

static json_t *word(struct reader *r)
{
    const char *start = r->text + r->at;
    while (is_letter(look(r)))
        r->at++;
    size_t len = (size_t)(r->text + r->at - start);
    if (len == 4 && memcmp(start, "true", 4) == 0)
        return json_true();
    if (len == 5 && memcmp(start, "false", 5) == 0)
        return json_false();
    if (len == 4 && memcmp(start, "null", 4) == 0)
        return json_null();
    return refuse(r, r->at, "unknown word");
}

/* ---- arrays and objects ------------------------------------------------------------- */

static json_t *any_value(struct reader *r);

/* Goes on behind a comma, or behind CLOSE, which ends it. */
static bool go_on(struct reader *r, int close, bool *end)
{
    int c = next(r);
    *end = c == close;
    if (c != close && c != ',')
        return miss(r, close == ']' ? "',' or ']' expected" : "',' or '}' expected");
    r->at++;
    return true;
}

static bool add_element(struct reader *r, json_t *array)
{
    json_t *value = any_value(r);
    return value && json_array_append_new(array, value) == 0;
}

static bool add_member(struct reader *r, json_t *object)
{
    size_t key = r->used;
    if (next(r) != '"')
        return miss(r, "key expected");
    if (!read_string(r))
        return false;
    r->used++; /* its NUL */
    if (json_object_get(object, r->room + key))
        return refuse(r, r->at, "duplicate object key");
    if (next(r) != ':')
        return miss(r, "':' expected");
    r->at++;
    json_t *value = any_value(r);
    bool done = value && json_object_set_new_nocheck(object, r->room + key, value) == 0;
    r->used = key;
    return done;
}

/* An array or object, whose bracket comes. */
static json_t *group(struct reader *r)
{
    bool is_array = look(r) == '[', end, good = true;
    int close = is_array ? ']' : '}';
    r->at++;
    if (r->depth == JSON_DEPTH_MAX)
        return refuse(r, r->at, "nested more than 64 levels deep");
    json_t *all = is_array ? json_array() : json_object();
    if (!all)
        return NULL;
    r->depth++;
    end = next(r) == close;
    r->at += end;
    while (good && !end)
        good = (is_array ? add_element(r, all) : add_member(r, all)) &&
               go_on(r, close, &end);
    r->depth--;
    if (good)
        return all;
    json_decref(all);
    return NULL;
}

static json_t *any_value(struct reader *r)
{
    int c = next(r);
    if (c == '[' || c == '{')
        return group(r);
    if (c == '"')
        return string(r);
    if (c == '-' || is_digit(c))
        return number(r);
    return is_letter(c) ? word(r) : miss(r, "value expected");
}

int bgmqi_json_parse(const void *text, size_t len, json_t **ret, struct bgmq_error *error)
{
    struct reader r = {.text = text, .len = len, .room = malloc(len + 1)};
    json_t *value = r.room ? any_value(&r) : NULL;
    free(r.room);
    if (value && next(&r) != END) {
        json_decref(value);
        value = miss(&r, "end of the text expected");
    }
    if (!value)
        return tell(&r, error);
    *ret = value;
    return 0;
}
