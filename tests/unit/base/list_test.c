#include "unit.h"

#include "base/list.h"

struct item {
    int number;
    struct list node;
};

/* The numbers of the members, in order, as text. */
static const char *text(struct list *head)
{
    static char out[100];
    size_t n = 0;
    out[0] = 0;
    LIST_FOREACH (node, head) {
        const struct item *it = LIST_ITEM(node, struct item, node);
        n += (size_t)snprintf(out + n, sizeof out - n, "%d ", it->number);
    }
    /* Backwards it must be the same members. */
    size_t back = 0;
    for (struct list *node = head->prev; node != head; node = node->prev)
        back++;
    LIST_FOREACH (node, head)
        back--;
    assert_int_equal(back, 0);
    return out;
}

static void keeps_order(void **state)
{
    (void)state;
    struct list head;
    list_init(&head);
    assert_true(list_empty(&head));
    assert_string_equal(text(&head), "");
    struct item items[4];
    for (int i = 0; i < 4; i++) {
        items[i].number = i;
        list_append(&head, &items[i].node);
    }
    assert_false(list_empty(&head));
    assert_string_equal(text(&head), "0 1 2 3 ");
    list_remove(&items[0].node);
    list_remove(&items[2].node);
    assert_string_equal(text(&head), "1 3 ");
    list_append(&head, &items[0].node);
    list_remove(&items[3].node);
    assert_string_equal(text(&head), "1 0 ");
    list_remove(&items[1].node);
    list_remove(&items[0].node);
    assert_true(list_empty(&head));
}

static void removing_twice_does_no_harm(void **state)
{
    (void)state;
    struct list head;
    struct item a = {.number = 1}, b = {.number = 2};
    list_init(&head);
    list_init(&a.node);
    list_remove(&a.node); /* was never in a list */
    list_append(&head, &a.node);
    list_append(&head, &b.node);
    list_remove(&a.node);
    list_remove(&a.node);
    assert_string_equal(text(&head), "2 ");
}

static void the_current_item_may_go(void **state)
{
    (void)state;
    struct list head;
    list_init(&head);
    for (int i = 0; i < 10; i++) {
        struct item *it = malloc(sizeof *it);
        assert_non_null(it);
        it->number = i;
        list_append(&head, &it->node);
    }
    int seen = 0;
    LIST_FOREACH (node, &head) {
        struct item *it = LIST_ITEM(node, struct item, node);
        assert_int_equal(it->number, seen++);
        list_remove(node);
        free(it);
    }
    assert_int_equal(seen, 10);
    assert_true(list_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_order),
        cmocka_unit_test(removing_twice_does_no_harm),
        cmocka_unit_test(the_current_item_may_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
