/* answer.h - what every route needs: fields of the request, errors and rows for the
 * answer. */
#ifndef TECHSTACKS_ANSWER_H
#define TECHSTACKS_ANSWER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct web_answer;
struct web_request;

void answer_error(struct web_answer *answer, unsigned status, const char *text);
/* ERR is an enum db_err. */
void answer_database_error(struct web_answer *answer, int64_t err);
/* Takes JSON; NULL: out of memory. */
void answer_json(struct web_answer *answer, unsigned status, json_t *json);

/* The string under NAME, of 1 to MAX bytes.  Else NULL, and the answer says so. */
const char *field_text(const struct web_request *request, const char *name, size_t max,
                       struct web_answer *answer);
/* The positive number under NAME.  Else 0, and the answer says so. */
int64_t field_id(const struct web_request *request, const char *name,
                 struct web_answer *answer);

#endif
