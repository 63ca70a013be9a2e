/* store_meta.c - meta, which a column has as the text of a JSON object, and back.
 *
 * Called by the opener and by the journal's thread.  Whoever can open the file wrote the text, so
 * it may be anything.  It must never take a lack of memory for a wrong text: a row of which that
 * is said is refused or buried for good. */
#include "store_meta.h"

#include <string.h>

#include "json.h"

/* Adds the LEN bytes at S and a NUL. */
static int add(char to[META_MAX], size_t *used, const char *s, size_t len)
{
    if (len >= META_MAX - *used)
        return BGMQ_ETOOBIG;
    memcpy(to + *used, s, len);
    *used += len;
    to[(*used)++] = '\0';
    return 0;
}

static int pack(json_t *object, char to[META_MAX], size_t *used)
{
    const char *key;
    json_t *value;
    int err = json_is_object(object) ? 0 : BGMQ_EJSON;
    json_object_foreach(object, key, value)
    {
        if (!json_is_string(value))
            return BGMQ_EJSON;
        if (!err)
            err = add(to, used, key, strlen(key));
        if (!err)
            err = add(to, used, json_string_value(value), json_string_length(value));
    }
    return err;
}

int bgmqi_store_meta_read(const char *text, char to[META_MAX], size_t *len)
{
    json_t *object;
    size_t used = 0;
    *len = 0;
    size_t given = strlen(text);
    if (given > STORE_META_TEXT_MAX)
        return BGMQ_ETOOBIG; /* before it asks for memory that nobody has: no row waits for that */
    int err = bgmqi_json_parse(text, given, &object, NULL);
    if (err)
        return err;
    err = pack(object, to, &used);
    json_decref(object);
    if (!err)
        *len = used;
    return err;
}

char *bgmqi_store_meta_text(const char *meta, size_t len, size_t *ret_len)
{
    json_t *object = json_object();
    char *text = NULL;
    for (size_t i = 0; object && i < len;) {
        const char *key = meta + i;
        const char *value = key + strlen(key) + 1;
        if (json_object_set_new(object, key, json_string(value)) != 0) {
            json_decref(object);
            return NULL;
        }
        i = (size_t)(value + strlen(value) + 1 - meta);
    }
    if (object)
        text = bgmqi_json_text(object, 0, ret_len);
    json_decref(object);
    return text;
}
