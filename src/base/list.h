#ifndef KBGP_BASE_LIST_H
#define KBGP_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Intrusive doubly linked list. A head and its members are the same struct; a member that is in no list points at
 * itself, so that list_remove() may be called on it at any time.
 */
struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* Puts `item`, which must be in no list, at the end. */
static inline void list_append(struct list *head, struct list *item)
{
    item->prev = head->prev;
    item->next = head;
    head->prev->next = item;
    head->prev = item;
}

static inline void list_remove(struct list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}

/* The struct of type T whose member `m` is the list node `p`. */
#define LIST_ITEM(p, T, m) ((T *)(void *)((char *)(p)-offsetof(T, m)))

/* Walks the list; the current item may be removed (and freed) in the body, no other. */
#define LIST_FOREACH(it, head)                                                                               \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head);                                \
         it = it##_next, it##_next = it->next)

#endif
