/*
 * answer.c - what every route needs: fields of the request, errors and rows for the
 * answer.
 *
 * Runs on the HTTP thread.  Every error is an object with an "error" for people to read.
 */
#include "answer.h"

#include "db.h"
#include "web.h"
#include <stdio.h>
#include <string.h>

void answer_error(struct web_answer *answer, unsigned status, const char *text)
{
    *answer =
        (struct web_answer){.status = status, .json = json_pack("{s:s}", "error", text)};
}

void answer_database_error(struct web_answer *answer, int64_t err)
{
    if (err == DB_EXISTS)
        answer_error(answer, 409, "it is there already");
    else if (err == DB_NOREF)
        answer_error(answer, 404, "it names something that is not there");
    else
        answer_error(answer, 503, "the database does not work; see the server's log");
}

void answer_json(struct web_answer *answer, unsigned status, json_t *json)
{
    if (json)
        *answer = (struct web_answer){.status = status, .json = json};
    else
        answer_error(answer, 503, "out of memory");
}

/* The string under NAME: not empty, at most MAX bytes, else NULL and the answer says so.
 */
const char *field_text(const struct web_request *request, const char *name, size_t max,
                       struct web_answer *answer)
{
    char error[96];
    const char *text = json_string_value(json_object_get(request->body, name));
    if (text && *text && strlen(text) <= max)
        return text;
    snprintf(error, sizeof(error), "\"%s\" must be a string of 1 to %zu bytes", name,
             max);
    answer_error(answer, 400, error);
    return NULL;
}

int64_t field_id(const struct web_request *request, const char *name,
                 struct web_answer *answer)
{
    char error[64];
    int64_t id = json_integer_value(json_object_get(request->body, name));
    if (id > 0)
        return id;
    snprintf(error, sizeof(error), "\"%s\" must be a positive number", name);
    answer_error(answer, 400, error);
    return 0;
}
