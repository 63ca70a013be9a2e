/*
 * say.c - one line to stderr, from any thread.
 *
 * Names and subjects come from strangers, so control bytes are shown as '?': what they
 * wrote can neither end a line nor drive a terminal.
 */
#include "say.h"

#include <stdarg.h>
#include <stdio.h>

void say(const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    for (char *c = line; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    fprintf(stderr, "techstacks: %s\n", line);
}
