"""What the tools of test_lint.py report and is right as it is: each with the reason.

LINE is a part of the line in src that is reported.  An entry that nothing reports any more is a
failure: then it goes.
"""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Accepted:
    check: str
    file: str
    line: str
    why: str


ACCEPTED = (
    # gcc -fanalyzer does not know that what is put into a list, by a link inside, is kept.
    Accepted('-Wanalyzer-malloc-leak', 'options.c', 'for (size_t i = 0; i < n; i++)',
             'the copies stand in *RET, which the caller frees also after a failure'),
    Accepted('-Wanalyzer-malloc-leak', 'options.c', 'if (!(copy[i] = strdup(list[i])))',
             'the copies stand in *RET, which the caller frees also after a failure'),
    Accepted('-Wanalyzer-malloc-leak', 'http_config.c', 'if (!config->hosts[i])',
             'the copies stand in CONFIG, which the caller frees also after a failure'),
    Accepted('-Wanalyzer-malloc-leak', 'progress_tx.c', 'bgmqi_tx_signal_add(conn, &c->item);',
             'the cursor is in the list of the connection by its item'),
    Accepted('-Wanalyzer-malloc-leak', 'register.c', 'bgmqi_type_rouse(t);',
             'the crew is in the list of the service'),
    Accepted('-Wanalyzer-malloc-leak', 'tx.c', '}',
             'what is expected is in the list of the connection by its item'),

    Accepted('bugprone-not-null-terminated-result', 'http_token.c',
             'memcpy(page, text, strlen(text));', 'the page is longer, and zeros'),
    Accepted('concurrency-mt-unsafe', 'http_token.c', 'getenv(o->token_env)',
             'token_env asks for it, before there are threads that look there'),
    Accepted('concurrency-mt-unsafe', 'http_token.c', 'unsetenv(o->token_env)',
             'token_env asks for it, before there are threads that look there'),
    Accepted('misc-no-recursion', 'json.c', 'static int shallow(json_t *value, int levels)',
             'as deep as LEVELS at most, which is small'),
    Accepted('misc-no-recursion', 'json_parse.c', 'static bool add_element(',
             'it goes JSON_DEPTH_MAX levels down at most'),
    Accepted('misc-no-recursion', 'json_parse.c', 'static bool add_member(',
             'it goes JSON_DEPTH_MAX levels down at most'),
    Accepted('misc-no-recursion', 'json_parse.c', 'static json_t *group(struct reader *r)',
             'it goes JSON_DEPTH_MAX levels down at most'),
    Accepted('misc-no-recursion', 'json_parse.c', 'static json_t *any_value(struct reader *r)',
             'it goes JSON_DEPTH_MAX levels down at most'),
    Accepted('performance-no-int-to-ptr', 'slab.c', 'return (struct slab *)',
             'a block finds its slab by its address'),
    Accepted('readability-non-const-parameter', 'type_take.c', 'uint16_t *attempts, size_t max)',
             'it is written to, through the view'),

    Accepted('uninitvar', 'http_reply.c', '(mq, &body);',
             'the function of the route writes it, or returns an error'),
    Accepted('autoVariables', 'journal.c', 'j->tasks = &t;',
             'the function returns when the writer is done with it, or it is out of the list'),
    Accepted('autoVariables', 'journal.c', 'j->tasks_last = &t;',
             'the function returns when the writer is done with it, or it is out of the list'),
    Accepted('autoVariables', 'type_publish.c', 'a->waiter = &g;',
             'it is taken away before the function returns'),
    Accepted('redundantAssignment', 'log.c', 'inside = false;',
             'the callback in between asks for it'),
    Accepted('unusedStructMember', 'registry.c', 'uint64_t generation; /* of the registry',
             'cppcheck loses the members of a struct without a name'),
    Accepted('unusedStructMember', 'registry.c', 'struct type *type;',
             'cppcheck loses the members of a struct without a name'),
    Accepted('unusedStructMember', 'registry.c', 'char name[64];',
             'cppcheck loses the members of a struct without a name'),
    Accepted('unreadVariable', 'store_bind.c', 'p.bound[at].kind = UNKNOWN;',
             'P is a copy, but what it points to is not'),
    Accepted('constParameter', 'tx.c', 'static void undone(struct tx_item *item, struct bgmq *mq)',
             'a callback has the parameters of its type'),
)
