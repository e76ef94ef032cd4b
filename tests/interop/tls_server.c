/* A key server with wolfSSL, as in C programs. It sends the same key to one client after the other.
 *
 *     tls_server PSK_FILE VERSION SUITES [CERTIFICATE_AND_KEY] <KEY
 *
 * VERSION is that of TLS: 1.2, 1.3 or any. SUITES are names of wolfSSL, with colons between them. CERTIFICATE_AND_KEY
 * is a PEM file for suites with a certificate. KEY is the payload of the answer: 128 bytes, or 132 bytes with epoch and
 * suite. The server listens on a free port of 127.0.0.1 and prints the port. Then it prints a line for each client.
 */
#include "tls_psk.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned find_key(WOLFSSL *ssl, const char *identity, unsigned char *key, unsigned key_max) {
    (void)ssl;
    if (strcmp(identity, psk_identity) != 0 || psk_size > key_max)
        return 0;
    memcpy(key, psk_key, psk_size);
    return psk_size;
}

static WOLFSSL_METHOD *method_of(const char *version) {
    if (strcmp(version, "1.2") == 0)
        return wolfTLSv1_2_server_method();
    return strcmp(version, "1.3") == 0 ? wolfTLSv1_3_server_method() : wolfSSLv23_server_method();
}

static bool serve(WOLFSSL *ssl, const unsigned char *answer, int size) {
    unsigned char request[4];
    if (wolfSSL_accept(ssl) != WOLFSSL_SUCCESS || wolfSSL_read(ssl, request, 4) != 4)
        return false;
    static const unsigned char key_request[] = {1, 1, 0, 0}; /* version, type KEY_REQ, size */
    return memcmp(request, key_request, 4) == 0 && wolfSSL_write(ssl, answer, size) == size;
}

int main(int argc, char **argv) {
    unsigned char answer[4 + 132] = {1, 1};
    if (argc != 4 && argc != 5)
        return 2;
    read_psk(argv[1]);
    size_t size = fread(answer + 4, 1, sizeof answer - 4, stdin);
    answer[3] = (unsigned char)size;

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 8) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) < 0) {
        perror("listen");
        return 1;
    }
    wolfSSL_Init();
    WOLFSSL_CTX *context = wolfSSL_CTX_new(method_of(argv[2]));
    wolfSSL_CTX_set_psk_server_callback(context, find_key);
    must(NULL, wolfSSL_CTX_use_psk_identity_hint(context, "a key server"), "wolfSSL_CTX_use_psk_identity_hint");
    must(NULL, wolfSSL_CTX_set_cipher_list(context, argv[3]), "this wolfSSL does not have the suites");
    if (argc == 5) {
        int pem = WOLFSSL_FILETYPE_PEM;
        must(NULL, wolfSSL_CTX_use_certificate_file(context, argv[4], pem), "wolfSSL_CTX_use_certificate_file");
        must(NULL, wolfSSL_CTX_use_PrivateKey_file(context, argv[4], pem), "wolfSSL_CTX_use_PrivateKey_file");
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%d\n", ntohs(address.sin_port));
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        WOLFSSL *ssl = wolfSSL_new(context);
        must(ssl, wolfSSL_set_fd(ssl, connection), "wolfSSL_set_fd");
        bool served = serve(ssl, answer, 4 + (int)size);
        printf("%s\n", served ? wolfSSL_get_cipher_name(ssl) : "no key given");
        if (served)
            wolfSSL_shutdown(ssl);
        wolfSSL_free(ssl);
        close(connection);
    }
}
