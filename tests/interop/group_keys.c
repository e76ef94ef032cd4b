/* The keys of a group in wolfSSL. These rules are easy to break. The mark [n] stands where the code obeys a rule:
 *
 * [1] Make before break. KEY_STATE lists up to three keys. First install the new keys for reception and acknowledge
 *     them. Then send with the marked key. Last, drop the keys that are no longer listed.
 * [2] A sequence number must never be used twice with one key: with ChaCha20, that reveals the plaintext. So one
 *     WOLFSSL object seals all datagrams of a key, from the first datagram to the end of the key, also when the daemon
 *     restarts. A key that we sent with and then dropped is never used to send again. After a restart of this program,
 *     the daemon enforces the rule: it lets us send only from the next epoch on.
 * [3] wolfSSL_set_secret starts the replay windows of the peers that it knows. wolfSSL_mcast_peer_add on a live object
 *     returns success, but wolfSSL never accepts records of that peer: its window is that of epoch 0. So we make three
 *     objects for each key. Together they know all 256 sender ids from the start (one object has room for 100). So we
 *     receive from a later joiner at once.
 * [4] wolfSSL must get only whole application data records of its own epoch, but anybody can send other data to a
 *     group. After a body shorter than its MAC or tag, or after an alert, wolfSSL never reads a record again. After a
 *     wrong version number, wolfSSL (5.5.4) sends an alert to all. After a wrong length, it loses the next record.
 * [5] A program that begins has empty replay windows, and a stranger may have recorded earlier datagrams. So the
 *     program does not receive with an earlier key: a key that the first KEY_STATE lists and does not mark as unused.
 *     It requests a new key, and it may send with the earlier key until the new one comes.
 * [6] Never call wolfSSL_shutdown: its close_notify would end the sessions of all receivers.
 */
#include "group_keys.h"

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include <stdio.h>
#include <string.h>

/* KEY_STATE: sender_id u8 | flags u8 | count u8 | reserved u8 | senders[32] | count entries.
 * Entry: epoch u16 | suite[2] | flags u8 | reserved[3] | pms[64] | server_random[32] | client_random[32].
 * Record: type u8 | version[2] | epoch u16 | sender_id u8 | sequence u40 | length u16 | body.
 * Numbers are big-endian. */
enum { STATE_SIZE = 36, ENTRY_SIZE = 136, MAX_KEYS = 3, LEASED = 1, SEND = 1, UNUSED = 4 };
enum { SUITE = 2, FLAGS = 4, PMS = 8, PMS_SIZE = 64, SERVER_RANDOM = 72, CLIENT_RANDOM = 104, RANDOMS_SIZE = 64 };
enum { RECORD_HEAD = 13, APPLICATION_DATA = 23, RECORD_EPOCH = 3, RECORD_SENDER = 5, RECORD_LENGTH = 11 };
enum { PEERS_EACH = 86, READERS = 3, PLACES = 2 * MAX_KEYS, SPENT_KEYS = 64 };

#define WORN (UINT64_C(1) << 39)
#define SEQUENCE_END (UINT64_C(1) << 40)

struct key {
    unsigned epoch;                /* 1..65535, or 0 in a free place */
    uint8_t randoms[RANDOMS_SIZE]; /* not secret; they distinguish keys of the same epoch */
    unsigned seal_size;            /* size of the MAC or tag at the end of a record */
    bool listed;
    bool earlier; /* others may have sent with this key before this program began [5] */
    WOLFSSL *readers[READERS];
    WOLFSSL *writer; /* made at the first KEY_STATE that marks this key to send with */
    unsigned writer_id;
    uint64_t sent;
};

static WOLFSSL_CTX *context;
static struct key keys[PLACES]; /* the keys of the last state, and those that it replaces */
static struct key *sending;
static bool has_begun; /* a key state has come [5] */
static uint8_t spent[SPENT_KEYS][RANDOMS_SIZE]; /* dropped keys that we sent with [2] */
static unsigned spent_count;

/* The datagram for the next wolfSSL call to read, and the datagram that the last call wrote. */
static const uint8_t *incoming;
static uint8_t *outgoing;
static size_t incoming_size, outgoing_size;

static int give_datagram(WOLFSSL *ssl, char *buffer, int room, void *unused) {
    (void)ssl, (void)unused;
    if (incoming == NULL || incoming_size > (size_t)room)
        return WOLFSSL_CBIO_ERR_WANT_READ;
    memcpy(buffer, incoming, incoming_size);
    incoming = NULL;
    return (int)incoming_size;
}

/* Discards unwanted datagrams, such as an alert of a reader, and reports them to wolfSSL as sent. */
static int take_datagram(WOLFSSL *ssl, char *buffer, int size, void *unused) {
    (void)ssl, (void)unused;
    if (outgoing != NULL && size <= GROUP_MAX_DATAGRAM) {
        memcpy(outgoing, buffer, (size_t)size);
        outgoing_size = (size_t)size;
    }
    return size;
}

/* Never called, because there is no handshake. But without a callback, wolfSSL (for example 5.7) refuses PSK suites. */
static unsigned no_psk(WOLFSSL *ssl, const char *hint, char *identity, unsigned identity_max, unsigned char *key,
                       unsigned key_max) {
    (void)ssl, (void)hint, (void)identity, (void)identity_max, (void)key, (void)key_max;
    return 0;
}

bool group_keys_start(void) {
    if (wolfSSL_Init() != WOLFSSL_SUCCESS || wolfSSL_mcast_get_max_peers() < PEERS_EACH)
        return false;
    context = wolfSSL_CTX_new(wolfDTLSv1_2_client_method());
    if (context != NULL)
        wolfSSL_CTX_set_psk_client_callback(context, no_psk);
    return context != NULL;
}

static unsigned number16(const uint8_t *bytes) { return (unsigned)(bytes[0] << 8 | bytes[1]); }

/* Make an object for the key of an entry. The object knows the peers from first_peer to end_peer - 1. Returns NULL when
 * this wolfSSL cannot use the key. */
static WOLFSSL *new_object(const uint8_t *entry, unsigned member_id, unsigned first_peer, unsigned end_peer) {
    if (wolfSSL_CTX_mcast_set_member_id(context, (unsigned short)member_id) != WOLFSSL_SUCCESS)
        return NULL;
    wolfSSL_CTX_SetIORecv(context, give_datagram); /* after the member id, because that call sets its own callback */
    wolfSSL_CTX_SetIOSend(context, take_datagram);
    WOLFSSL *ssl = wolfSSL_new(context);
    if (ssl == NULL)
        return NULL;
    wolfSSL_dtls_set_using_nonblock(ssl, 1);
    bool good = true;
    for (unsigned peer = first_peer; good && peer < end_peer; peer++) /* before the secret [3] */
        good = wolfSSL_mcast_peer_add(ssl, (unsigned short)peer, 0) == WOLFSSL_SUCCESS;
    if (!good || wolfSSL_set_secret(ssl, (unsigned short)number16(entry), entry + PMS, PMS_SIZE, entry + CLIENT_RANDOM,
                                    entry + SERVER_RANDOM, entry + SUITE) != WOLFSSL_SUCCESS) {
        wolfSSL_free(ssl);
        return NULL;
    }
    return ssl;
}

/* Wipe and free a key. wolfSSL_free also wipes the secrets of an object. No wolfSSL_shutdown [6]. */
static void drop(struct key *key) {
    if (key->epoch != 0)
        printf("epoch %u: dropped, sent %llu with it\n", key->epoch, (unsigned long long)key->sent);
    if (key->writer != NULL)
        memcpy(spent[spent_count++ % SPENT_KEYS], key->randoms, RANDOMS_SIZE);
    wolfSSL_free(key->writer);
    for (int i = 0; i < READERS; i++)
        wolfSSL_free(key->readers[i]);
    memset(key, 0, sizeof *key);
}

static struct key *find(const uint8_t *entry) {
    for (struct key *key = keys; key < keys + PLACES; key++)
        if (key->epoch == number16(entry) && memcmp(key->randoms, entry + SERVER_RANDOM, RANDOMS_SIZE) == 0)
            return key;
    return NULL;
}

static struct key *install(const uint8_t *entry) {
    struct key *key = keys;
    while (key->epoch != 0) /* there is room for two whole states, so a place is always free */
        key++;
    for (unsigned i = 0, first = 0; i < READERS; i++, first += PEERS_EACH) {
        unsigned end = first + PEERS_EACH < GROUP_SENDERS ? first + PEERS_EACH : GROUP_SENDERS;
        key->readers[i] = new_object(entry, 0, first, end);
        if (key->readers[i] == NULL) {
            fprintf(stderr, "wolfSSL cannot use suite %02X%02X\n", entry[SUITE], entry[SUITE + 1]);
            drop(key);
            return NULL;
        }
    }
    key->epoch = number16(entry);
    key->seal_size = entry[SUITE] == 0x00 ? 32 : 16; /* 00FE: HMAC-SHA256; CCAB: Poly1305 */
    memcpy(key->randoms, entry + SERVER_RANDOM, RANDOMS_SIZE);
    key->earlier = !has_begun && (entry[FLAGS] & UNUSED) == 0;
    printf("epoch %u: installed%s\n", key->epoch, key->earlier ? "" : " for reception");
    return key;
}

static bool is_spent(const struct key *key) {
    for (unsigned i = 0; i < SPENT_KEYS; i++)
        if (memcmp(spent[i], key->randoms, RANDOMS_SIZE) == 0)
            return true;
    return false;
}

/* Prepare a key to send with our leased sender id. Returns false when a sequence number could come twice [2]. */
static bool can_send(struct key *key, const uint8_t *entry, unsigned sender_id) {
    if (key->writer != NULL)
        return key->writer_id == sender_id; /* else wait for the next key: this writer has the old id */
    if (is_spent(key))
        return false;
    key->writer = new_object(entry, sender_id, 0, 0);
    key->writer_id = sender_id;
    return key->writer != NULL;
}

bool group_keys_take_state(const uint8_t *state, size_t size, void (*installed)(unsigned epoch)) {
    unsigned count = size < STATE_SIZE ? 0 : state[2];
    if (count == 0 || count > MAX_KEYS || size != STATE_SIZE + count * ENTRY_SIZE)
        return true; /* a daemon that has just started has no key yet: our keys stay in use */
    bool numbers_known = true;
    struct key *was_sending = sending;
    sending = NULL;
    for (struct key *key = keys; key < keys + PLACES; key++)
        key->listed = false;
    for (const uint8_t *entry = state + STATE_SIZE; entry < state + size; entry += ENTRY_SIZE) { /* oldest first [1] */
        struct key *key = find(entry);
        if (key == NULL && (key = install(entry)) == NULL)
            continue;
        key->listed = true;
        if (!key->earlier)
            installed(key->epoch);
        if ((entry[FLAGS] & SEND) == 0 || (state[1] & LEASED) == 0)
            continue;
        if (can_send(key, entry, state[0]))
            sending = key;
        else if (is_spent(key))
            numbers_known = false;
    }
    if (sending != was_sending && sending != NULL)
        printf("epoch %u: sending as sender %u\n", sending->epoch, sending->writer_id);
    else if (sending != was_sending)
        printf("epoch %u: not sending any more\n", was_sending->epoch);
    for (struct key *key = keys; key < keys + PLACES; key++)
        if (key->epoch != 0 && !key->listed)
            drop(key);
    has_begun = true;
    return numbers_known;
}

bool group_keys_are_earlier(void) {
    bool any = false;
    for (struct key *key = keys; key < keys + PLACES; key++) {
        if (key->epoch != 0 && !key->earlier)
            return false;
        any |= key->epoch != 0;
    }
    return any;
}

void group_keys_receive_earlier(void (*installed)(unsigned epoch)) {
    for (struct key *key = keys; key < keys + PLACES; key++) {
        if (key->epoch == 0 || !key->earlier)
            continue;
        key->earlier = false;
        printf("epoch %u: installed for reception, for want of a new key\n", key->epoch);
        installed(key->epoch);
    }
}

size_t group_keys_seal(const void *plaintext, size_t size, uint8_t datagram[GROUP_MAX_DATAGRAM], bool *worn) {
    if (sending == NULL || sending->sent == SEQUENCE_END || size > GROUP_MAX_PLAINTEXT)
        return 0;
    outgoing = datagram;
    outgoing_size = 0;
    sending->sent++; /* the number counts as used, even if the write fails */
    int written = wolfSSL_write(sending->writer, plaintext, (int)size);
    outgoing = NULL;
    *worn = sending->sent == WORN;
    if (written != (int)size)
        fprintf(stderr, "wolfSSL_write: error %d\n", wolfSSL_get_error(sending->writer, written));
    return written == (int)size ? outgoing_size : 0;
}

int group_keys_open(const uint8_t *datagram, size_t size, uint8_t plaintext[GROUP_MAX_DATAGRAM], unsigned *sender) {
    if (size < RECORD_HEAD || datagram[0] != APPLICATION_DATA || datagram[1] != 0xfe || datagram[2] != 0xfd ||
        size - RECORD_HEAD != number16(datagram + RECORD_LENGTH) || number16(datagram + RECORD_EPOCH) == 0)
        return -1; /* [4] */
    struct key *key = keys;
    while (key < keys + PLACES && key->epoch != number16(datagram + RECORD_EPOCH))
        key++;
    if (key == keys + PLACES || size < RECORD_HEAD + key->seal_size)
        return -1; /* [4] */
    *sender = datagram[RECORD_SENDER];
    if (key->earlier || (key->writer != NULL && key->writer_id == *sender))
        return 0; /* [5] */
    incoming = datagram;
    incoming_size = size;
    int length = wolfSSL_mcast_read(key->readers[*sender / PEERS_EACH], NULL, plaintext, GROUP_MAX_DATAGRAM);
    incoming = NULL;
    return length > 0 ? length : -1;
}

void group_keys_stop(void) {
    sending = NULL;
    for (struct key *key = keys; key < keys + PLACES; key++)
        drop(key);
    wolfSSL_CTX_free(context);
    wolfSSL_Cleanup();
}
