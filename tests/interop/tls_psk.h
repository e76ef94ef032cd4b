/* Functions of both the key client and the key server in C: reading the pre-shared key, and exit on an error. */
#ifndef TLS_PSK_H
#define TLS_PSK_H

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char psk_identity[129];
static unsigned char psk_key[64];
static unsigned psk_size;

/* Read the first line, identity:hexkey, of a PSK file. */
static void read_psk(const char *path) {
    char hex[2 * sizeof psk_key + 1];
    FILE *file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%128[^:]:%128[0-9a-fA-F]", psk_identity, hex) != 2) {
        fprintf(stderr, "%s: no line identity:hexkey\n", path);
        exit(2);
    }
    fclose(file);
    for (const char *digits = hex; sscanf(digits, "%2hhx", &psk_key[psk_size]) == 1; digits += 2)
        psk_size++;
}

/* Exit with a message when a wolfSSL function failed: its result is 0 or lower. */
static void must(WOLFSSL *ssl, int result, const char *what) {
    char text[WOLFSSL_MAX_ERROR_SZ];
    if (result > 0)
        return;
    fprintf(stderr, "%s: %s\n", what,
            ssl == NULL ? "refused" : wolfSSL_ERR_error_string((unsigned long)wolfSSL_get_error(ssl, result), text));
    exit(1);
}

#endif
