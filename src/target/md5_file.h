#ifndef KBGP_TARGET_MD5_FILE_H
#define KBGP_TARGET_MD5_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "target/inventory.h"

/* A TCP-MD5 password as an operator hands it over: a file with nothing else in it. */
struct md5_key {
    uint8_t bytes[INVENTORY_MD5_KEY_MAX];
    uint8_t len; /* 0: no key */
};

/*
 * Reads the password; one newline (or CR LF) at the end is not part of it. False with words: the file's name
 * and what is accepted, never what is in the file. Waits for the other end of a pipe. The caller wipes it.
 */
bool md5_file_read(const char *path, struct md5_key *out, struct err *e);

/* For those who must not wait: false, with words, for what is not a regular file. */
bool md5_file_check(const char *path, struct err *e);

#endif
