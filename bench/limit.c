/*
 * What a relay's agent cannot go below: bytes come from one TCP connection, are encrypted as TLS 1.3 records (AES-256-GCM, 16
 * KiB each) and leave on another one, or the other way round. One recv, one pass of the cipher, one send for each piece of 64
 * KiB; no HTTP/2, no event loop, no other sessions. The cipher is the one that the programs use (net/gcm), or OpenSSL's own.
 *
 *     limit encrypt|decrypt [--bytes N] [--openssl]
 *
 * Three processes on loopback: a source, the relay, a sink that verifies every byte. Prints one line of JSON; cpu_s_per_gb is
 * the relay's own CPU time for 10^9 plain bytes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "net/gcm.h"

#define RECORD  16384u
#define HEADER  5u
#define TRAILER (1u + 16u) /* content type, tag */
#define WIRE    (HEADER + RECORD + TRAILER)
#define PIECE   4u /* records: 64 KiB */
#define PATTERN (1u << 20)

static const uint8_t key[32] =
    "the same key at both ends, as is"; /* no secret: it never leaves this machine */
static uint8_t pattern[PATTERN];

static bool openssls_own;

struct cipher {
    EVP_CIPHER_CTX *ctx;
    uint64_t sequence;
};

static void die(const char *what)
{
    fprintf(stderr, "limit: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void start(struct cipher *c, bool encrypt)
{
    EVP_CIPHER *aes = EVP_CIPHER_fetch(NULL, "AES-256-GCM", openssls_own ? NULL : gcm_properties());
    c->ctx = EVP_CIPHER_CTX_new();
    if (!c->ctx || EVP_CipherInit_ex(c->ctx, aes, NULL, key, NULL, encrypt) != 1)
        die("AES-256-GCM");
    EVP_CIPHER_free(aes);
}

/* The nonce of RFC 8446: a number that counts records. The header is what the tag covers besides. */
static void begin_record(struct cipher *c, const uint8_t header[HEADER])
{
    uint8_t nonce[12] = {0};
    uint64_t n = c->sequence++;
    for (int i = 11; i > 3; i--, n >>= 8)
        nonce[i] = (uint8_t)n;
    int len;
    if (EVP_CipherInit_ex(c->ctx, NULL, NULL, NULL, nonce, -1) != 1 ||
        EVP_CipherUpdate(c->ctx, NULL, &len, header, HEADER) != 1)
        die("a record's start");
}

static void encrypt(struct cipher *c, const uint8_t *plain, uint8_t *wire)
{
    const uint8_t header[HEADER] = {23, 3, 3, (RECORD + TRAILER) >> 8, (RECORD + TRAILER) & 255}, type = 23;
    int len;
    memcpy(wire, header, HEADER);
    begin_record(c, header);
    if (EVP_CipherUpdate(c->ctx, wire + HEADER, &len, plain, RECORD) != 1 ||
        EVP_CipherUpdate(c->ctx, wire + HEADER + RECORD, &len, &type, 1) != 1 ||
        EVP_CipherFinal_ex(c->ctx, NULL, &len) != 1 ||
        EVP_CIPHER_CTX_ctrl(c->ctx, EVP_CTRL_GCM_GET_TAG, 16, wire + HEADER + RECORD + 1) != 1)
        die("encrypting");
}

static void decrypt(struct cipher *c, const uint8_t *wire, uint8_t *plain)
{
    uint8_t type, tag[16];
    int len;
    begin_record(c, wire);
    memcpy(tag, wire + HEADER + RECORD + 1, sizeof tag);
    if (EVP_CipherUpdate(c->ctx, plain, &len, wire + HEADER, RECORD) != 1 ||
        EVP_CipherUpdate(c->ctx, &type, &len, wire + HEADER + RECORD, 1) != 1 || type != 23 ||
        EVP_CIPHER_CTX_ctrl(c->ctx, EVP_CTRL_GCM_SET_TAG, 16, tag) != 1 ||
        EVP_CipherFinal_ex(c->ctx, NULL, &len) != 1) {
        fprintf(stderr, "limit: a record that is not authentic\n");
        exit(1);
    }
}

/* A connected pair of TCP sockets on loopback. */
static void tcp_pair(int out[2])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    out[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (l < 0 || out[0] < 0 || bind(l, (struct sockaddr *)&a, sizeof a) != 0 || listen(l, 1) != 0 ||
        getsockname(l, (struct sockaddr *)&a, &len) != 0 ||
        connect(out[0], (struct sockaddr *)&a, sizeof a) != 0 || (out[1] = accept(l, NULL, NULL)) < 0)
        die("a TCP connection");
    close(l);
}

static void send_whole(int fd, const uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t w = send(fd, p, n, MSG_NOSIGNAL);
        if (w < 0)
            die("send");
        p += w;
        n -= (size_t)w;
    }
}

static void recv_whole(int fd, uint8_t *p, size_t n)
{
    if (recv(fd, p, n, MSG_WAITALL) != (ssize_t)n)
        die("recv");
}

static void fill_pattern(void)
{
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < PATTERN; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        pattern[i] = (uint8_t)x;
    }
}

/* Sends the pattern again and again, as it is or as records. */
static void source(int fd, uint64_t records, bool as_records)
{
    static uint8_t wire[PIECE * WIRE];
    struct cipher c = {0};
    start(&c, true);
    for (uint64_t r = 0; r < records; r += PIECE) {
        const uint8_t *plain = pattern + r * RECORD % PATTERN;
        if (!as_records) {
            send_whole(fd, plain, PIECE * RECORD);
            continue;
        }
        for (size_t i = 0; i < PIECE; i++)
            encrypt(&c, plain + i * RECORD, wire + i * WIRE);
        send_whole(fd, wire, sizeof wire);
    }
}

static void sink(int fd, uint64_t records, bool as_records)
{
    static uint8_t wire[PIECE * WIRE], plain[PIECE * RECORD];
    struct cipher c = {0};
    start(&c, false);
    for (uint64_t r = 0; r < records; r += PIECE) {
        if (as_records) {
            recv_whole(fd, wire, sizeof wire);
            for (size_t i = 0; i < PIECE; i++)
                decrypt(&c, wire + i * WIRE, plain + i * RECORD);
        } else {
            recv_whole(fd, plain, sizeof plain);
        }
        if (memcmp(plain, pattern + r * RECORD % PATTERN, sizeof plain) != 0) {
            fprintf(stderr, "limit: wrong bytes\n");
            exit(1);
        }
    }
}

static void relay(int from, int to, uint64_t records, bool encrypting)
{
    static uint8_t wire[PIECE * WIRE], plain[PIECE * RECORD];
    struct cipher c = {0};
    start(&c, encrypting);
    size_t piece = encrypting ? sizeof plain : sizeof wire;
    for (uint64_t r = 0; r < records; r += PIECE) {
        recv_whole(from, encrypting ? plain : wire, piece);
        for (size_t i = 0; i < PIECE; i++)
            if (encrypting)
                encrypt(&c, plain + i * RECORD, wire + i * WIRE);
            else
                decrypt(&c, wire + i * WIRE, plain + i * RECORD);
        send_whole(to, encrypting ? wire : plain, encrypting ? sizeof wire : sizeof plain);
    }
}

static double cpu_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static pid_t child(void)
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

int main(int argc, char **argv)
{
    uint64_t bytes = 2000000000;
    if (argc > 2 && strcmp(argv[argc - 1], "--openssl") == 0) {
        openssls_own = true;
        argc--;
    }
    if ((argc != 2 && argc != 4) || (strcmp(argv[1], "encrypt") != 0 && strcmp(argv[1], "decrypt") != 0) ||
        (argc == 4 && (strcmp(argv[2], "--bytes") != 0 || (bytes = strtoull(argv[3], NULL, 10)) == 0))) {
        fprintf(stderr, "usage: limit encrypt|decrypt [--bytes N] [--openssl]\n");
        return 2;
    }
    bool encrypting = strcmp(argv[1], "encrypt") == 0;
    uint64_t records = (bytes / (PIECE * RECORD) + 1) * PIECE;
    fill_pattern();
    int in[2], out[2];
    tcp_pair(in);
    tcp_pair(out);
    pid_t first = child();
    if (first == 0) {
        /* Whoever else holds an end would hide that a process is gone. */
        close(in[1]);
        close(out[0]);
        close(out[1]);
        source(in[0], records, !encrypting);
        return 0;
    }
    pid_t last = child();
    if (last == 0) {
        close(in[0]);
        close(in[1]);
        close(out[0]);
        sink(out[1], records, encrypting);
        return 0;
    }
    close(in[0]);
    close(out[1]);
    double t = cpu_now();
    relay(in[1], out[0], records, encrypting);
    t = cpu_now() - t;
    close(in[1]);
    close(out[0]);
    int a, b;
    if (waitpid(first, &a, 0) < 0 || waitpid(last, &b, 0) < 0 || a != 0 || b != 0) {
        fprintf(stderr, "limit: source or sink failed\n");
        return 1;
    }
    printf("{\"mode\":\"%s\",\"bytes\":%llu,\"cpu_s_per_gb\":%.4f}\n", argv[1],
           (unsigned long long)(records * RECORD), t / ((double)(records * RECORD) / 1e9));
    return 0;
}
