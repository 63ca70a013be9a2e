/* routes.h - what the server answers to which request. */
#ifndef TECHSTACKS_ROUTES_H
#define TECHSTACKS_ROUTES_H

struct app;
struct web_answer;
struct web_request;

void routes_answer(struct app *app, const struct web_request *request,
                   struct web_answer *answer);

#endif
