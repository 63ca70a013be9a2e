/* say.h - one line to stderr. */
#ifndef TECHSTACKS_SAY_H
#define TECHSTACKS_SAY_H

/* Writes "techstacks: ", the formatted text and a line end in one piece.  Any thread. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
