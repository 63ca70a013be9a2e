#!/usr/bin/env python3
"""What of libmicrohttpd, jansson and the C library is never used, or only in one way, because the
versions of Debian 12 have a fault there.  The faults that tests can meet have tests elsewhere."""
import pathlib
import re
import sys

import tap

ROOT = pathlib.Path(__file__).resolve().parents[2]


def sources():
    """name -> text without comments; strings are left, for formats."""
    return {path.name: re.sub(r'/\*.*?\*/', '', path.read_text(), flags=re.S)
            for path in sorted((ROOT / 'src').glob('*.[ch]'))}


SOURCES = sources()


def uses(pattern):
    """Where PATTERN is, as 'file: line'."""
    return [f'{name}: {line.strip()}' for name, text in SOURCES.items()
            for line in text.splitlines() if re.search(pattern, line)]


def calls(function):
    """The arguments of each call of a function whose name FUNCTION matches, on one line."""
    found = []
    for text in SOURCES.values():
        for call in re.finditer(rf'\b(?:{function})\(', text):
            depth, end = 1, call.end()
            while depth:
                depth += {'(': 1, ')': -1}.get(text[end], 0)
                end += 1
            found.append(re.sub(r'\s+', ' ', text[call.start():end]))
    return found


def never(t, name, pattern):
    found = uses(pattern)
    t.check(name, not found, *found)


def each(t, name, function, pattern):
    """Each call of FUNCTION, of which there is one at least, has PATTERN in it."""
    found = calls(function)
    bare = [call for call in found if not re.search(pattern, call)]
    t.check(name, found and not bare, *bare)


# M1. CVE-2023-27371
def check_post_processor(t):
    never(t, 'no post processor', r'MHD_\w*post_processor')


# M10.
def check_answers_come_in_the_call(t):
    never(t, 'connections are not suspended, upgraded, or given a thread each',
          r'MHD_(suspend|resume)_connection|MHD_upgrade|MHD_USE_THREAD_PER_CONNECTION'
          r'|MHD_create_response_for_upgrade|MHD_ALLOW_SUSPEND')


# M12.
def check_authentication_is_our_own(t):
    never(t, 'no Basic or Digest of libmicrohttpd', r'MHD_(basic|digest|queue_(basic|auth))')


# M13.
def check_websocket(t):
    never(t, 'no WebSocket', r'MHD_websocket|microhttpd_ws')


# M14.  Its own one says what happened and ends the process; another would be all the application's.
def check_panic_stays_the_application_s(t):
    never(t, 'the panic function is not replaced', r'MHD_set_panic_func')


# M9.
def check_daemon_is_stopped_in_one_place(t):
    found = uses(r'MHD_stop_daemon|MHD_quiesce_daemon')
    t.check('the daemon is stopped by bgmq_http_stop alone',
            len(found) == 1 and found[0].startswith('http.c: '), *found)


# J1.
def check_depth(t):
    found = uses(r'\bjson_(deep_copy|equal)\b')
    t.check('nothing goes down a value without a limit', not found, *found)


# J10.  Of 2.14 a reader that finds no memory goes on with a byte less, and a writer with a key less.
def check_texts_are_read_and_measured_by_ours(t):
    never(t, 'texts are read by json_parse.c', r'\bjson_load')
    never(t, 'texts are written by bgmqi_json_text', r'\bjson_dump(s|f|fd|_file|_callback)?\(')
    found = [line.split(':')[0] for line in uses(r'\bjson_dumpb\(')]
    t.check('... which measures first', found == ['json.c', 'json.c'], *found)


# J2.
def check_pack_has_no_lengths(t):
    found = [call for call in calls('json_pack|json_unpack')
             if any(re.search('[#%+]', text) for text in re.findall(r'"([{\[ ][^"]*)"', call))]
    t.check('formats of our own have no lengths', calls('json_pack') and not found, *found)


# J3, J4.
def check_no_reals(t):
    found = uses(r'\bjson_real')
    t.check('no real numbers but those of a body', len(found) == 1 and
            found[0].startswith('json_parse.c: '), *found)
    found = [call for call in calls('json_pack|json_unpack')
             if any('f' in text for text in re.findall(r'"([{\[ ][^"]*)"', call))]
    t.check('formats of our own have no real numbers', not found, *found)


# J5.
def check_keys_come_once(t):
    found = [f'{name}: {call}' for name in ('json.c', 'report.c', 'reply.c')
             for call in re.findall(r' = bgmqi_json_text\([^;]*;', SOURCES[name])]
    t.check('JSON for others is ASCII',
            len(found) >= 3 and all('JSON_ENSURE_ASCII' in call for call in found), *found)


# J6.
def check_nothing_is_taken_that_is_refused(t):
    never(t, 'what jansson refuses stays refused', r'JSON_(DISABLE_EOF_CHECK|ALLOW_NUL)')


# J8.
def check_allocators_stay_the_application_s(t):
    never(t, 'the allocator of jansson is not set', r'json_set_alloc_funcs')


# J9.
def check_seed(t):
    text = SOURCES['service_open.c']
    seed, first = text.find('json_object_seed(0)'), text.find('bgmqi_options_service(')
    t.check('the seed of objects is set first of all', 0 < seed < first)


# G1.  A condition is waited for a second at most, and one kind of waiter is at each.
def check_waits_are_bounded(t):
    found = uses(r'pthread_cond_(wait|signal)\b|sem_wait\b|pthread_barrier_')
    t.check('no wait without a limit, no wake-up of one', not found, *found)
    found = uses(r'pthread_cond_timedwait')
    t.check('conditions are waited for in one place',
            [line.split(':')[0] for line in found] == ['monitor.c'], *found)
    t.check('... for PARK_MAX_NS at most',
            'timeout_ns < PARK_MAX_NS ? timeout_ns : PARK_MAX_NS' in
            re.sub(r'\s+', ' ', SOURCES['monitor.c']))


# G2.
def check_conditions_have_the_monotonic_clock(t):
    makers = [name for name, text in SOURCES.items() if 'pthread_cond_init(' in text]
    t.check('conditions are made in one place', makers == ['monitor.c'], *makers)
    t.check('... with the monotonic clock',
            'pthread_condattr_setclock(&attr, CLOCK_MONOTONIC)' in SOURCES['monitor.c'])
    never(t, 'none is made statically, with the other one', r'PTHREAD_COND_INITIALIZER')


# G3.
def check_stacks_have_their_size(t):
    makers = {name: text for name, text in SOURCES.items() if 'pthread_create(' in text}
    bare = [name for name, text in makers.items() if 'pthread_attr_setstacksize(' not in text]
    t.check('threads are made with a size of their stack', makers and not bare, *bare)
    each(t, '... that of the daemon too', 'MHD_start_daemon', 'MHD_OPTION_THREAD_STACK_SIZE')


# G5.
def check_cancellation(t):
    never(t, 'no thread is cancelled', r'pthread_cancel\(|pthread_testcancel|CANCEL_ENABLE')
    begun = re.findall(r'pthread_create\(&\S+, &attr, (\w+)', ''.join(SOURCES.values()))
    begun += [re.split(r', ', call)[3] for call in calls('bgmqi_thread_start')
              if 'void *' not in call]
    begun = sorted(set(begun) - {'fn'})
    text = '\n'.join(SOURCES.values())
    bodies = {name: re.findall(rf'^(?:static )?void \*{name}\(void \*arg\)\n\{{(.*?)^\}}', text,
                               re.M | re.S) for name in begun}
    open_ = [name for name, found in bodies.items()
             if not found or any('PTHREAD_CANCEL_DISABLE' not in body for body in found)]
    t.check('our threads cannot be cancelled', len(begun) >= 3 and not open_, *open_)


def main():
    t = tap.Tap()
    for name, check in sorted(globals().items()):
        if name.startswith('check_'):
            check(t)
    return t.end()


if __name__ == '__main__':
    sys.exit(main())
