#include "daemon/limits.h"

#include <sys/resource.h>

void limits_raise_descriptors(void)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
}

void limits_forbid_core_file(void)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_CORE, &lim) == 0) {
        lim.rlim_cur = 0;
        setrlimit(RLIMIT_CORE, &lim);
    }
}
