/*
 * Takes the place of libFuzzer in a normal build: runs a fuzz target once over each file of the folders (or
 * files) that are named, so that what was found once stays found.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int play(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = NULL;
    size_t n = 0, cap = 0, got;
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    do {
        cap = cap ? 2 * cap : 4096;
        uint8_t *more = realloc(data, cap);
        if (!more)
            abort();
        data = more;
        got = fread(data + n, 1, cap - n, file);
        n += got;
    } while (n == cap);
    fclose(file);
    /* A copy of the exact size: a byte read beyond the end is found by the address sanitizer. */
    uint8_t *exact = malloc(n ? n : 1);
    if (!exact)
        abort();
    if (n > 0)
        memcpy(exact, data, n);
    free(data);
    fprintf(stderr, "%s: %zu bytes\n", path, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned played = 0;
    int status = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            status |= play(argv[i]);
            played++;
            continue;
        }
        for (struct dirent *entry; (entry = readdir(dir));) {
            char path[4096];
            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            status |= play(path);
            played++;
        }
        closedir(dir);
    }
    if (played == 0) {
        fprintf(stderr, "no inputs: an empty corpus tests nothing\n");
        return 1;
    }
    return status;
}
