#include "target/md5_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool md5_file_check(const char *path, struct err *e)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return err_set(e, "%.200s: cannot be read: %s", path, strerror(errno));
    return S_ISREG(st.st_mode) || err_set(e, "%.200s: is not a regular file", path);
}

/* Fills `buf` as far as the file goes; -1: errno says why not. */
static ssize_t read_all(int fd, uint8_t *buf, size_t size)
{
    size_t n = 0;
    while (n < size) {
        ssize_t got = read(fd, buf + n, size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

bool md5_file_read(const char *path, struct md5_key *out, struct err *e)
{
    uint8_t buf[INVENTORY_MD5_KEY_MAX + 3]; /* CR LF, and one byte that shows that it is too long */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read_all(fd, buf, sizeof buf);
    int errnum = errno;
    if (fd >= 0)
        close(fd);
    *out = (struct md5_key){.len = 0};
    if (n < 0)
        return err_set(e, "%.200s: cannot be read: %s", path, strerror(errnum));
    if (n > 0 && buf[n - 1] == '\n')
        n--;
    if (n > 0 && buf[n - 1] == '\r')
        n--;
    bool ok = inventory_check_md5_key(buf, (size_t)n, e) || err_prefix(e, "the content of %.200s", path);
    if (ok) {
        memcpy(out->bytes, buf, (size_t)n);
        out->len = (uint8_t)n;
    }
    OPENSSL_cleanse(buf, sizeof buf);
    return ok;
}
