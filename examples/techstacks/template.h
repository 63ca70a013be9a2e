/* template.h - text with {{names}} in it. */
#ifndef TECHSTACKS_TEMPLATE_H
#define TECHSTACKS_TEMPLATE_H

#include <jansson.h>

/* Renders TEXT with the strings and integers of the object VALUES: {{name}} is escaped
 * for HTML, {{{name}}} goes in as it is, a name that is not there is nothing.  Returns a
 * new string to free(), or NULL: out of memory. */
char *template_render(const char *text, const json_t *values);

#endif
