#ifndef KBGP_DAEMON_TABLE_H
#define KBGP_DAEMON_TABLE_H

#include <stddef.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 12

/*
 * A table for people: columns as wide as their widest cell, two spaces between them. Set `columns`, the rest
 * is zero. The first row is the heading.
 */
struct table {
    size_t columns; /* 1…TABLE_COLUMNS_MAX */
    size_t width[TABLE_COLUMNS_MAX];
    char **cells; /* row after row; owned */
    size_t count, cap;
};

/* Adds a row; the texts (printable ASCII) are copied. */
void table_add(struct table *t, const char *const *row);

/* Writes the table; a heading alone is not written. */
void table_print(const struct table *t, FILE *out);

/* Gives the memory back; `columns` stays. */
void table_free(struct table *t);

#endif
