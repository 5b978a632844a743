#ifndef KBGP_TESTS_LIB_UNIT_H
#define KBGP_TESTS_LIB_UNIT_H

/* cmocka with the headers that it wants before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* For two numbers of any unsigned types, without the casts that -Wconversion would want. */
#define assert_u64_equal(a, b)                                                                               \
    do {                                                                                                     \
        uint64_t left_ = (a), right_ = (b);                                                                  \
        if (left_ != right_)                                                                                 \
            fail_msg("%s is %llu, %s is %llu", #a, (unsigned long long)left_, #b,                            \
                     (unsigned long long)right_);                                                            \
    } while (0)

#endif
