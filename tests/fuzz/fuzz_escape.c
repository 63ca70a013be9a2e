/* fuzz_escape.c - hostile bytes for whatever puts them before people: a line of the log is one
 * printable line, an error text has no control characters, JSON is ASCII and says the same, a name
 * on the text page stays in its line, and a text is cut between characters. */
#include "err.h"
#include "http_config.h"
#include "json.h"
#include "log.h"
#include "report.h"
#include "target.h"
#include "utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void keep_line(void *ctx, enum bgmq_level level, const char *text)
{
    (void)level;
    CHECK(strlen(text) < 1024);
    strcpy(ctx, text);
}

/* One printable line, from which the bytes can be told again as far as it goes. */
static void check_log(const char *text)
{
    char line[1024] = "";
    struct log log = {.fn = keep_line, .ctx = line};
    bgmqi_log(&log, BGMQ_LOG_WARNING, "%s", text);
    const char *from = text;
    for (const char *p = line; *p; from++) {
        unsigned char c = (unsigned char)*from;
        unsigned n;
        CHECK(*p >= 0x20 && *p < 0x7f);
        if (c >= 0x20 && c < 0x7f) {
            CHECK(*p++ == (char)c);
        } else {
            CHECK(sscanf(p, "\\x%2x", &n) == 1 && n == c);
            p += 4;
        }
    }
    CHECK(!*from || strlen(line) + 5 >= sizeof line || strlen(text) >= sizeof line - 5);
}

static void check_error(const struct bgmq_error *error)
{
    CHECK(memchr(error->text, '\0', sizeof error->text));
    for (const char *p = error->text; *p; p++)
        CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static void check_errors(const char *text)
{
    struct bgmq_error error;
    CHECK(bgmqi_err_set(&error, BGMQ_EOPEN, "%s: no", text) == BGMQ_EOPEN);
    check_error(&error);
}

/* TEXT as the name of a type, which the library would refuse long before. */
static void check_json(const char *text)
{
    struct report r = {.started = true};
    struct bgmq_error error;
    snprintf(r.total.name, sizeof r.total.name, "%s", text);
    int valid = bgmqi_utf8_valid(r.total.name, strlen(r.total.name));
    char *json = bgmqi_report_stats_json(&r);
    CHECK(!json == !valid);
    if (!json)
        return;
    for (const char *p = json; *p; p++)
        CHECK(*p >= 0x20);
    json_t *root;
    CHECK(bgmqi_json_parse(json, strlen(json), &root, &error) == 0);
    json_t *name = json_object_get(json_object_get(root, "totals"), "name");
    CHECK(!strcmp(json_string_value(name), r.total.name));
    json_decref(root);
    free(json);
}

static void check_cut(const char *data, size_t size, size_t max)
{
    size_t cut = bgmqi_utf8_cut(data, size, max);
    CHECK(cut <= size && cut <= max);
    CHECK(max - cut < 4 || cut == size);
    if (bgmqi_utf8_valid(data, size))
        CHECK(bgmqi_utf8_valid(data, cut) && bgmqi_utf8_valid(data + cut, size - cut));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    CHECK(text);
    memcpy(text, data, size);
    text[size] = '\0';
    check_log(text);
    check_errors(text);
    check_json(text);
    for (size_t max = 0; max <= size && max < 40; max++)
        check_cut(text, size, max);
    check_cut(text, size, 1024);
    free(text);
    return 0;
}
