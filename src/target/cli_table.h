#ifndef KBGP_TARGET_CLI_TABLE_H
#define KBGP_TARGET_CLI_TABLE_H

#include <stddef.h>
#include <stdio.h>

#define CLI_TABLE_COLUMNS_MAX 8

/*
 * A table for people: columns as wide as their widest cell, two spaces between them. Set `columns`, the rest
 * is zero. The first row is the heading.
 */
struct cli_table {
    size_t columns; /* 1…CLI_TABLE_COLUMNS_MAX */
    size_t width[CLI_TABLE_COLUMNS_MAX];
    char **cells; /* row after row; owned */
    size_t count, cap;
};

/* Adds a row; the texts (ASCII) are copied. */
void cli_table_add(struct cli_table *t, const char *const *row);

/* Writes the table; a heading alone is not written. */
void cli_table_print(const struct cli_table *t, FILE *out);

/* Gives the memory back; `columns` stays. */
void cli_table_free(struct cli_table *t);

#endif
