"""The fault programme: what each part runs, and the figures it owes when run in full.

A part's commands are test programs (AREA/test_NAME.c is 'AREA/NAME') or scripts
('AREA/test_NAME.py').  Each prints points in TAP and lines '# figure: NAME VALUE'; figures of one
name are added up over the commands of a part.  BGMQ_FULL=1 asks for the full size, BGMQ_SEED=N for
another plan.  A part without bars has nothing to count: it owes a point of each command.
"""
import dataclasses
import operator


@dataclasses.dataclass(frozen=True)
class Command:
    what: str
    build: str = 'faults'
    """Its build: faults (plain, asserts on), asan or tsan."""


@dataclasses.dataclass(frozen=True)
class Part:
    number: int
    name: str
    about: str
    commands: tuple
    bars: dict = dataclasses.field(default_factory=dict)
    """figure -> '>= N' (of full runs), '= N', '<= N', or '<= N in full' (of full runs, too)."""


COMPARE = {'>=': operator.ge, '<=': operator.le, '=': operator.eq}


def meets(bar, value, full):
    """Whether VALUE does; None when a quick run need not."""
    how, number, *when = bar.split()
    if (how == '>=' or when) and not full:
        return None
    return COMPARE[how](value, float(number))


PARTS = (
    Part(1, 'contract', 'every function with what it refuses; stores conform to one contract',
         (Command('faults/contract'), Command('faults/arguments'), Command('faults/codes'),
          Command('store/store_conform')),
         {'checks': '>= 1500', 'codes': '= 30'}),
    Part(2, 'hazards', 'what the linked SQLite does to others, and that it cannot do it to us',
         (Command('faults/hazards'), Command('faults/settings')),
         {'kept': '>= 429', 'lost': '= 0'}),
    Part(3, 'simulate', 'the core in virtual time: faults by a seed, then calm, and an oracle',
         (Command('sim/simulate'),),
         {'seeds': '>= 20000', 'steps': '>= 20000000'}),
    Part(4, 'powerloss', 'the power goes at every write, and what was not synced is torn',
         (Command('faults/powerloss'),),
         {'states': '>= 100000', 'lost': '= 0', 'corrupt': '= 0', 'half': '= 0'}),
    Part(5, 'kill', 'kill -9 in a loop on one file',
         (Command('crash/kill'), Command('crash/mix'), Command('crash/tx_kill'),
          Command('crash/guest_kill')),
         {'kills': '>= 1500', 'messages': '>= 200000', 'lost': '= 0', 'phantom': '= 0',
          'effects': '= 0', 'replay_ms': '<= 1000'}),
    Part(6, 'ioerr', 'every call into the file system fails, once and for good',
         (Command('faults/ioerr'),), {'points': '>= 2000', 'kinds': '= 13'}),
    Part(7, 'oom', 'every allocation fails, once and for good', (Command('faults/oom'),),
         {'points': '>= 5000', 'threads': '>= 10'}),
    Part(8, 'sanitizers', 'contract and storms under the address and the thread sanitizer',
         (Command('faults/contract', build='asan'), Command('faults/storm', build='asan'),
          Command('faults/storm', build='tsan')),
         {'checks': '>= 1500', 'sequences': '>= 4000', 'signals': '>= 1000', 'misplaced': '= 0',
          'lost': '= 0', 'reports': '= 0'}),
    Part(9, 'valgrind', 'memcheck: no error, no block lost, no file left',
         (Command('faults/test_valgrind.py'),), {'programs': '>= 14'}),
    Part(10, 'models', 'Spin on the protocols, and on each with its guard removed',
         (Command('faults/test_models.py'),), {'guards': '>= 38', 'states': '>= 1000000'}),
    Part(11, 'schedule', 'one thread at a time, in an order that a seed decides',
         (Command('schedule/schedule'),), {'schedules': '>= 5000'}),
    Part(12, 'fuzz', 'hostile bytes for whatever reads bytes', (Command('fuzz/test_fuzz.py'),),
         {'executions': '>= 200000', 'crashes': '= 0'}),
    Part(13, 'hostile', 'slow, broken and many HTTP clients', (Command('faults/hostile'),),
         {'throughput_percent': '>= 90', 'reach_ms': '<= 10000', 'growth_kib': '<= 8192'}),
    Part(14, 'clock', 'the wall clock jumps', (Command('faults/clock'),),
         {'jumps': '>= 130', 'rest_s': '>= 13', 'cpu_us': '<= 650000'}),
    Part(15, 'poison', 'a message that kills its process', (Command('faults/poison'),),
         {'pills': '>= 160', 'innocents': '>= 7840', 'lost': '= 0'}),
    Part(16, 'storm', 'start, stop, pause and close from everywhere; signals',
         (Command('faults/storm'), Command('faults/midway'), Command('faults/test_unload.py'),
          Command('flow/exit')),
         {'sequences': '>= 2000', 'signals': '>= 500', 'misplaced': '= 0', 'lost': '= 0'}),
    Part(17, 'processes', 'owner, stand-by and guests: killed, stopped, continued',
         (Command('faults/processes'),),
         {'jobs': '>= 100000', 'kills': '>= 200', 'pauses': '>= 100', 'refused': '>= 1',
          'lost': '= 0', 'effects': '= 0', 'log_mib': '<= 511'}),
    Part(18, 'exhaust', 'no threads, memory, files or room left',
         (Command('faults/exhaust'), Command('faults/room')),
         {'refused': '>= 20'}),
    Part(19, 'slowdisk', 'a disk that takes its time', (Command('faults/slowdisk'),),
         {'late_ms': '<= 50'}),
    Part(20, 'soak', 'mixed load with a fault a second', (Command('faults/soak'),),
         {'faults': '>= 60', 'messages': '>= 10000', 'lost': '= 0', 'effects': '= 0',
          'growth_kib': '<= 8192', 'heap_more_kib': '<= 1024', 'fds_more': '<= 0 in full',
          'threads_more': '<= 0 in full', 'log_mib': '<= 63', 'p99_percent': '<= 300 in full'}),
    Part(21, 'upgrade', 'files of other versions', (Command('faults/upgrade'),),
         {'releases': '= 4', 'kills': '>= 100'}),
    Part(22, 'mutants', 'faults put into the code, each found by a test',
         (Command('faults/test_mutants.py'),), {'mutants': '>= 60', 'survivors': '= 0'}),
)
