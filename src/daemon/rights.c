#include "daemon/rights.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

void rights_use_permitted(void)
{
    /* The system calls themselves: for these two it is not worth a library. pid 0 is the calling thread. */
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, sets) != 0)
        return;
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        sets[i].effective = sets[i].permitted;
    syscall(SYS_capset, &header, sets);
}
