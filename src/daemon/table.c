#include "daemon/table.h"

#include <stdlib.h>
#include <string.h>

void table_add(struct table *t, const char *const *row)
{
    if (t->cap - t->count < t->columns) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->cells = realloc(t->cells, t->cap * sizeof *t->cells);
        if (!t->cells)
            abort(); /* a command without memory for its output has nothing else to do */
    }
    for (size_t i = 0; i < t->columns; i++) {
        char *cell = strdup(row[i]);
        if (!cell)
            abort();
        size_t n = strlen(cell);
        if (t->width[i] < n)
            t->width[i] = n;
        t->cells[t->count++] = cell;
    }
}

void table_print(const struct table *t, FILE *out)
{
    if (t->count <= t->columns)
        return;
    for (size_t i = 0; i < t->count; i++) {
        size_t column = i % t->columns;
        if (column + 1 < t->columns)
            fprintf(out, "%-*s  ", (int)t->width[column], t->cells[i]);
        else
            fprintf(out, "%s\n", t->cells[i]); /* no blanks at the end of a line */
    }
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->cells[i]);
    free(t->cells);
    *t = (struct table){.columns = t->columns};
}
