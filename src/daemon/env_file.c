#include "daemon/env_file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *trim(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n > 0 && isspace((unsigned char)s[n - 1]))
        n--;
    s[n] = 0;
    return s;
}

static bool is_name(const char *s)
{
    if (!isalpha((unsigned char)*s) && *s != '_')
        return false;
    while (isalnum((unsigned char)*s) || *s == '_')
        s++;
    return *s == 0;
}

static char *unquote(char *s)
{
    size_t n = strlen(s);
    if (n >= 2 && (s[0] == '"' || s[0] == '\'') && s[n - 1] == s[0]) {
        s[n - 1] = 0;
        s++;
    }
    return s;
}

bool env_file_parse(char *text, const char *path, env_file_pair *pair, void *arg, struct err *e)
{
    int number = 0;
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        number++;
        line = trim(line);
        if (*line == 0 || *line == '#' || *line == ';')
            continue;
        char *equals = strchr(line, '=');
        if (!equals)
            return err_set(e, "%s, line %d: not of the form NAME=VALUE", path, number);
        *equals = 0;
        char *key = trim(line);
        if (!is_name(key))
            return err_set(e, "%s, line %d: what stands before \"=\" is not the name of a variable", path,
                           number);
        pair(arg, key, unquote(trim(equals + 1)));
    }
    return true;
}

bool env_file_read(const char *path, env_file_pair *pair, void *arg, struct err *e)
{
    /* Non-blocking: a pipe that nobody writes to must not hold the start up, or the event loop. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text = fd < 0 ? NULL : malloc(ENV_FILE_MAX + 1);
    bool ok = false;
    size_t have = 0;
    ssize_t n = 0;
    if (fd < 0) {
        err_set(e, "%s: %s", path, strerror(errno));
    } else if (!text) {
        err_set(e, "out of memory");
    } else {
        while (have <= ENV_FILE_MAX && (n = read(fd, text + have, ENV_FILE_MAX + 1 - have)) > 0)
            have += (size_t)n;
        if (n < 0)
            err_set(e, "%s: %s", path, strerror(errno));
        else if (have > ENV_FILE_MAX)
            err_set(e, "%s: longer than %u KiB", path, ENV_FILE_MAX >> 10);
        else if (memchr(text, 0, have))
            err_set(e, "%s: not a text file", path);
        else
            ok = true;
    }
    if (ok) {
        text[have] = 0;
        ok = env_file_parse(text, path, pair, arg, e);
    }
    if (text)
        explicit_bzero(text, have); /* a token may stand in it */
    free(text);
    if (fd >= 0)
        close(fd);
    return ok;
}
