/* A key client with wolfSSL, as in C programs. It requests the key from a key server on 127.0.0.1.
 *
 *     tls_client PSK_FILE PORT SUITE
 *
 * SUITE is a name of wolfSSL. With a name that begins with TLS13- the client uses TLS 1.3, with any other name TLS 1.2.
 * It writes the unchanged payload of the answer to standard output.
 */
#include "tls_psk.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned give_key(WOLFSSL *ssl, const char *hint, char *identity, unsigned identity_max, unsigned char *key,
                         unsigned key_max) {
    (void)ssl, (void)hint;
    if (psk_size > key_max)
        return 0;
    snprintf(identity, identity_max, "%s", psk_identity);
    memcpy(key, psk_key, psk_size);
    return psk_size;
}

static void read_all(WOLFSSL *ssl, unsigned char *buffer, int size) {
    for (int done = 0, count; done < size; done += count) {
        count = wolfSSL_read(ssl, buffer + done, size - done);
        must(ssl, count, "wolfSSL_read");
    }
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    read_psk(argv[1]);
    bool tls13 = strncmp(argv[3], "TLS13-", 6) == 0;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection, (struct sockaddr *)&server, sizeof server) < 0) {
        perror("connect");
        return 1;
    }
    wolfSSL_Init();
    /* By default, a wolfSSL client verifies certificates and trusts none. So it accepts only the PSK. */
    WOLFSSL_CTX *context = wolfSSL_CTX_new(tls13 ? wolfTLSv1_3_client_method() : wolfTLSv1_2_client_method());
    wolfSSL_CTX_set_psk_client_callback(context, give_key);
    must(NULL, wolfSSL_CTX_set_cipher_list(context, argv[3]), "this wolfSSL does not have the suite");
    WOLFSSL *ssl = wolfSSL_new(context);
    must(ssl, wolfSSL_set_fd(ssl, connection), "wolfSSL_set_fd");
    must(ssl, wolfSSL_connect(ssl), "wolfSSL_connect");
    fprintf(stderr, "%s %s\n", wolfSSL_get_version(ssl), wolfSSL_get_cipher_name(ssl));

    static const unsigned char request[] = {1, 1, 0, 0}; /* version, type KEY_REQ, size */
    unsigned char head[4], payload[132];
    must(ssl, wolfSSL_write(ssl, request, sizeof request), "wolfSSL_write");
    read_all(ssl, head, sizeof head);
    int size = head[2] << 8 | head[3];
    if (head[0] != 1 || head[1] != 1 || (size != 128 && size != 132)) {
        fprintf(stderr, "the answer is no key\n");
        return 1;
    }
    read_all(ssl, payload, size);
    fwrite(payload, 1, (size_t)size, stdout);
    wolfSSL_shutdown(ssl);
    wolfSSL_free(ssl);
    wolfSSL_CTX_free(context);
    close(connection);
    return 0;
}
