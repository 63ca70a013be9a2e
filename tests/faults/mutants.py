"""The mutants: faults put into src, one at a time, and the tests that have to notice.

Each is an error that somebody could make, at a place where a promise of bgmq.h hangs on a line.  A
test is 'AREA/NAME' (tests/AREA/test_NAME.c), or 'AREA/NAME:CASE' for one of its cases.  Text to be
replaced stands once in its file: when the line is written anew, so is its mutant.
"""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    tests: tuple
    also: tuple = ()
    """More replacements in the file: (old, new)."""
    quick: bool = False
    """One of those that ./tests/run tries."""

    @property
    def changes(self):
        return ((self.old, self.new), *self.also)


MUTANTS = (
    # ---- what is durable -------------------------------------------------------------------
    Mutant('sync-off', 'store_sqlite.c',
           'sync == STORE_SYNC_FULL ? "PRAGMA main.synchronous = FULL"',
           'sync == STORE_SYNC_FULL ? "PRAGMA main.synchronous = OFF"',
           ('store/store_wal:syncs',), quick=True),
    Mutant('no-sync-for-what-was-committed-before', 'store_sqlite.c',
           'rc = sync_log(s);', 'rc = SQLITE_OK;', ('store/store_wal:syncs',)),
    Mutant('disk-is-not-synced', 'journal_writer.c',
           '*full_sync |= e->op.level == BGMQ_DISK;',
           '*full_sync |= e->op.level > BGMQ_DISK;', ('unit/journal:batches',)),
    Mutant('ids-reserved-without-a-sync', 'store_upkeep.c',
           '''int64_t got = 0;
    enum stage stage = STAGE_BEGIN;
    int rc = bgmqi_store_sqlite_begin(s, STORE_SYNC_FULL);''',
           '''int64_t got = 0;
    enum stage stage = STAGE_BEGIN;
    int rc = bgmqi_store_sqlite_begin(s, STORE_SYNC_NORMAL);''', ('store/store_wal:syncs',)),
    Mutant('ack-before-the-commit', 'ticket.c',
           'return move(t, QUEUED, WRITING);',
           '''bool begun = move(t, QUEUED, DONE);
    bgmqi_park_wake(&t->park);
    return begun;''', ('unit/journal_fault:failed', 'unit/journal:batches')),
    Mutant('uncertain-is-reported-as-ok', 'journal_writer.c',
           'finish_run(j, j->batch, n, BGMQ_EUNCERTAIN);', 'finish_run(j, j->batch, n, 0);',
           ('unit/journal_fault:failed',)),
    Mutant('failed-store-is-used-on', 'store_sqlite.c',
           's->dead = true;', 's->dead = false;', ('store/store_fault:failing',)),
    Mutant('failed-batch-is-not-rolled-back', 'store_sqlite.c',
           'int undone = bgmqi_store_sqlite_run(s, Q_ROLLBACK);\n        if (!sqlite3_get',
           'int undone = bgmqi_store_sqlite_run(s, Q_COMMIT);\n        if (!sqlite3_get',
           ('store/store_ops:refusals',)),
    Mutant('batch-that-lacks-a-row-is-half-written', 'store_write.c',
           'rc = bgmqi_store_sqlite_run(b->s, Q_ROLLBACK);',
           'rc = bgmqi_store_sqlite_run(b->s, Q_COMMIT);', ('store/store_ops:rows',)),
    Mutant('file-that-was-replaced-is-written-on', 'store_sqlite.c',
           'if (rc == SQLITE_OK && !bgmqi_store_open_is_same(s))', 'if (rc < SQLITE_OK)',
           ('store/store_fault:failing',)),

    # ---- the log and its check-points ------------------------------------------------------
    Mutant('check-points-by-themselves', 'store_upkeep.c',
           'sqlite3_wal_hook(s->w, count_pages, s);',
           '(void)count_pages;\n    sqlite3_wal_autocheckpoint(s->w, 1);',
           ('store/store_wal:checkpoints',)),
    Mutant('guest-makes-check-points', 'store_open.c',
           'sqlite3_wal_autocheckpoint(*ret, 0);', 'sqlite3_wal_autocheckpoint(*ret, 1);',
           ('flow/guest:one guest',)),
    Mutant('check-point-without-the-write-lock', 'store_upkeep.c',
           'int rc = bgmqi_store_sqlite_run(s, Q_BEGIN);\n    s->patience_ms = patience;',
           'int rc = SQLITE_OK;\n    s->patience_ms = patience;',
           ('store/store_wal:checkpoints', 'store/store_wal:others'),
           also=(('int undone = bgmqi_store_sqlite_run(s, Q_ROLLBACK);\n    if (undone',
                  'int undone = SQLITE_OK;\n    if (undone'),)),
    Mutant('cache-spills', 'store_open.c',
           '{"PRAGMA cache_spill = OFF", NULL},\n        {"PRAGMA cache_spill", "0"},\n', '',
           ('store/store_wal:others',)),
    # SQLITE_FCNTL_PERSIST_WAL is not here: without it nothing changes, as SQLite does not delete the
    # log of a connection that has NO_CKPT_ON_CLOSE.
    Mutant('close-makes-a-check-point', 'store_open.c',
           'SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL', 'SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL',
           ('store/store_wal:checkpoints', 'store/store_open:foreign', 'flow/guest:one guest')),

    # ---- opening again ---------------------------------------------------------------------
    Mutant('checksum-is-not-looked-at', 'store_row.c',
           'row->corrupt = odd || err != 0 ||', 'row->corrupt = (odd || err != 0) &&',
           ('store/store_load:load',)),
    Mutant('key-of-what-was-found-again-is-free', 'store_statement.c',
           '" ELSE EXISTS(SELECT 1 FROM main.bgmq_backlog b WHERE b.id = u.id"',
           '" ELSE EXISTS(SELECT 1 FROM main.bgmq_backlog b WHERE b.id < 0"',
           ('store/store_keys:keys', 'flow/unique')),
    Mutant('key-that-is-held-is-given', 'store_keys.c',
           'op->result = BGMQ_EEXIST;', 'op->result = 0;', ('store/store_keys:keys',)),
    Mutant('delay-is-forgotten', 'type_load.c',
           'message_put_due_ms(m, row->lane == LANE_DELAYED ? row->key : 0);',
           'message_put_due_ms(m, 0);', ('flow/persist:found again',)),
    Mutant('rows-that-expired-meanwhile-stay', 'type.c',
           't->stored_expiry = INT64_MIN; /* a look will tell */', ';', ('flow/expire',)),
    Mutant('expired-is-run', 'type_desk.c',
           'if (expires_ms && clock_wall_ms(t->env->clock) >= expires_ms)', 'if (expires_ms < 0)',
           ('flow/expire', 'flow/poison:late')),
    Mutant('crash-is-charged-twice', 'store_recover.c',
           'bool due = boot->flight != (uint64_t)charged;', 'bool due = true;\n    (void)charged;',
           ('flow/poison:kills', 'store/store_boot:owner')),
    Mutant('crash-limit-off-by-one', 'type_desk.c',
           'm->crashes >= t->env->max_crashes', 'm->crashes > t->env->max_crashes',
           ('flow/poison:alone',)),
    Mutant('attempt-is-counted-after-the-run', 'type_desk.c',
           'd->slot = flight_begin(d->ring, m->id, one_more(m->attempt));',
           'd->slot = flight_begin(d->ring, m->id, m->attempt);', ('flow/poison:kills',)),
    Mutant('flight-is-cleared-before-the-commit', 'type_settle.c',
           '''if (end.slot)
        flight_ended(end.slot);
    return end;''',
           '''if (end.slot)
        flight_end(end.slot);
    return end;''', ('flow/poison:kills',)),
    Mutant('suspects-run-beside-others', 'type_desk.c',
           't->env->started, memory_order_relaxed) == GATE_OPEN &&\n',
           't->env->started, memory_order_relaxed) != GATE_SHUT &&\n', ('flow/poison:alone',),
           also=(('return d->alone;', 'return true;'),)),
    Mutant('second-owner-is-let-in', 'owner.c',
           'fcntl(o->fd, F_SETLK, &all) != 0 ?', 'fcntl(o->fd, F_GETLK, &all) != 0 ?',
           ('unit/owner:two processes',)),

    # ---- one attempt, one outcome ----------------------------------------------------------
    Mutant('outcome-without-a-fence', 'type_settle.c',
           'return turn_from(d, held ? TURN_HELD : TURN_RUNNING, TURN_ENDING);',
           'atomic_store(&d->turn, TURN_ENDING);\n    return held || true;',
           ('flow/timeout:given_up',)),
    Mutant('given-up-by-the-message-only', 'type_settle.c',
           'if (!turn_from(d, TURN_RUNNING, TURN_LOST)) {',
           'if (atomic_exchange(&d->turn, TURN_LOST) < 0) {', ('flow/fence', 'flow/review:kept')),
    Mutant('row-that-is-gone-is-ended', 'tx_sql.c',
           'if (rc == SQLITE_OK && !(*found = sqlite3_changes64(db) != 0)) {',
           'if (rc == SQLITE_OK && !(*found = true)) {', ('flow/tx_job',)),
    Mutant('change-of-a-lost-row-counts', 'store_write.c',
           'op->result = BGMQ_ELOST;', 'op->result = 0;', ('store/store_ops:rows',)),
    Mutant('attempts-off-by-one', 'worker_verdict.c',
           'job->attempt >= most_attempts(job)', 'job->attempt > most_attempts(job)',
           ('flow/retry',), quick=True),

    # ---- order and bounds ------------------------------------------------------------------
    Mutant('priority-is-reversed', 'type.c',
           'a->priority > b->priority', 'a->priority < b->priority', ('flow/priority',)),
    Mutant('last-published-is-first', 'type_arrive.c',
           'bgmqi_queue_append(&t->inq, &q);',
           'for (struct message *m; (m = bgmqi_queue_pop(&q)) != NULL;)\n'
           '            bgmqi_queue_push_front(&t->inq, m);', ('flow/arrive:order',)),
    Mutant('window-off-by-one', 'type.c',
           'if (l->bounded || len < t->config.window)', 'if (l->bounded || len <= t->config.window)',
           ('flow/window',)),
    Mutant('load-begins-one-row-later', 'type_load.c',
           'l->seq = h->seq + 1;', 'l->seq = h->seq + 2;', ('flow/window',)),
    Mutant('dead-are-trimmed', 'type.c',
           'bgmqi_queue_push(&t->dlq, m);\n        break;',
           '''bgmqi_queue_push(&t->dlq, m);
        if (t->dlq.len > 100) {
            struct message *first = bgmqi_queue_pop(&t->dlq);
            first->place = PLACE_NONE;
            bgmqi_type_release(t, first);
        }
        break;''', ('flow/retry',)),
    Mutant('memory-beyond-the-bound', 'mem.c',
           'bytes > b->max - used', 'bytes > b->max', ('unit/mem:accounts',)),
    Mutant('publish-in-a-handler-waits', 'publish.c',
           'if (bgmqi_worker_job())', 'if (false)', ('flow/bound:inside',)),
    Mutant('bound-of-a-type-off-by-one', 'type_publish.c',
           'return waiting < c->max_messages;', 'return waiting <= c->max_messages;',
           ('flow/bound:outside',)),

    # ---- waking and waiting ----------------------------------------------------------------
    Mutant('arrival-wakes-nobody', 'type_arrive.c',
           'if (atomic_load(&a->watched)) {\n        bgmqi_type_lock(t);',
           'if (false) {\n        bgmqi_type_lock(t);', ('flow/arrive:sleep',)),
    # A start that wakes one worker is not here: whoever finds work wakes the next.
    Mutant('change-is-told-to-one', 'monitor.c',
           'pthread_cond_broadcast', 'pthread_cond_signal', ('unit/monitor',)),
    Mutant('waits-by-the-wall-clock', 'monitor.c',
           'pthread_condattr_setclock(&attr, CLOCK_MONOTONIC)',
           'pthread_condattr_setclock(&attr, CLOCK_REALTIME)', ('unit/monitor',)),
    Mutant('wait-without-an-end', 'monitor.c',
           'timeout_ns < PARK_MAX_NS ? timeout_ns : PARK_MAX_NS', 'timeout_ns / 2',
           ('unit/monitor',)),
    Mutant('interrupted-rest-is-over', 'park.c',
           'while (atomic_load(&p->word) == PARK_RESTING)',
           'if (atomic_load(&p->word) == PARK_RESTING)', ('unit/park:two threads',)),
    Mutant('wake-before-the-wait-is-lost', 'park.c',
           'if (settle_down(p, PARK_WAITING))\n        return true;',
           'atomic_store(&p->word, PARK_WAITING);', ('unit/park:alone',)),
    Mutant('signals-land-on-our-threads', 'thread.c',
           'pthread_sigmask(SIG_BLOCK, &blocked, &before);',
           'pthread_sigmask(SIG_BLOCK, NULL, &before);', ('flow/host:process',)),
    Mutant('child-of-a-fork-goes-on', 'handle.c',
           'return BGMQ_EFORKED;', ';', ('flow/owner:fork',)),

    # ---- transactions of the application ---------------------------------------------------
    Mutant('last-rowid-is-ours', 'tx_job.c',
           'sqlite3_set_last_insert_rowid(db, rowid);', '(void)rowid;', ('flow/tx_job',)),
    Mutant('last-rowid-of-a-publish-is-ours', 'tx.c',
           'sqlite3_set_last_insert_rowid(c->db, rowid);', '(void)rowid;',
           ('flow/tx:untouched',)),
    Mutant('temporary-table-takes-the-message', 'tx_sql.c',
           'sql_of(db, "INSERT INTO main.bgmq_job(" JOB_COLUMNS ") VALUES(" JOB_VALUES ")");',
           'sql_of(db, "INSERT INTO bgmq_job(" JOB_COLUMNS ") VALUES(" JOB_VALUES ")");',
           ('flow/tx:untouched',)),
    Mutant('rolled-back-savepoint-publishes', 'tx_signal.c',
           'c->depth = n + 1;\n    undo(c, n);', 'c->depth = n + 1;', ('flow/tx:savepoint',)),
    Mutant('rollback-publishes', 'tx_signal.c',
           'c->rung = false;\n    undo(c, -1);', 'deliver(c);', ('flow/tx:commit',)),
    Mutant('commit-over-two-files', 'tx_signal.c',
           'return SQLITE_CONSTRAINT_VTAB;', 'continue;', ('flow/tx_refuse:file',)),
    Mutant('triggers-of-others-run', 'store_open.c',
           '{SQLITE_DBCONFIG_ENABLE_TRIGGER, 0}', '{SQLITE_DBCONFIG_ENABLE_TRIGGER, 1}',
           ('store/store_open:foreign',)),

    # ---- what goes out ---------------------------------------------------------------------
    Mutant('log-line-is-not-escaped', 'log.c',
           '*p >= 0x20 && *p < 0x7f', '*p', ('unit/log:line',)),
    Mutant('page-is-not-ascii', 'report.c',
           'JSON_ENSURE_ASCII', '0', ('unit/report:json',)),
    Mutant('answer-may-be-sniffed', 'http_reply.c',
           '"nosniff"', '"sniff"', ('http/http_reply',)),
    Mutant('any-beginning-is-the-token', 'http_guard.c',
           'volatile size_t diff = len ^ config->token_len;', 'volatile size_t diff = 0;',
           ('http/http_guard',), quick=True),
    Mutant('token-is-compared-in-part', 'http_guard.c',
           'for (size_t i = 0, k = 0; i < len; i++) {',
           'for (size_t i = 0, k = 0; i + 1 < len; i++) {', ('http/http_guard',)),
    Mutant('any-host-is-served', 'http_guard.c',
           '!any_host && !host_is_known(config, head->host)', 'any_host > 1',
           ('http/http:requests',)),
    Mutant('page-of-another-site-may-stop', 'http_guard.c',
           'return head->origin || head->referer ||', 'return head->referer ||',
           ('http/http:requests',)),
)
