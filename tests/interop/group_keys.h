/* The keys of a group in wolfSSL. It takes a KEY_STATE, seals plaintexts into datagrams, and opens datagrams. It has no
 * sockets. */
#ifndef GROUP_KEYS_H
#define GROUP_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GROUP_SENDERS = 256, GROUP_MAX_DATAGRAM = 2048, GROUP_MAX_PLAINTEXT = 1024 };

/* Call this once, before all other functions. Returns false when this wolfSSL does not support multicast DTLS. */
bool group_keys_start(void);

/* Take the payload of a KEY_STATE from keys.sock: install the new keys, send with the marked key, and drop the keys
 * that are no longer listed. Calls `installed` for every listed key that is now ready for reception; the caller
 * acknowledges it to the daemon. Returns false when we should send with a key, but no longer know its last sequence
 * number. Then request a new key (KEY_NEW, sender restarted). */
bool group_keys_take_state(const uint8_t *state, size_t size, void (*installed)(unsigned epoch));

/* Returns true while every key that we hold may have been in use before this program began. We receive nothing then.
 * Request a new key (KEY_NEW, receiver began). */
bool group_keys_are_earlier(void);

/* Receive with those earlier keys too. Use this when no new key comes. Calls `installed` for each of them. */
void group_keys_receive_earlier(void (*installed)(unsigned epoch));

/* Make the datagram that carries `size` bytes (at most GROUP_MAX_PLAINTEXT) to the group. Returns its size, or 0 when
 * we may not send now. When `*worn` is set, the key should be replaced soon: request a new key (KEY_NEW). */
size_t group_keys_seal(const void *plaintext, size_t size, uint8_t datagram[GROUP_MAX_DATAGRAM], bool *worn);

/* Open a datagram from the network. Returns the size of the plaintext and sets `*sender` to its sender id. Returns 0
 * for our own datagram from multicast loopback, and for a datagram under an earlier key. Returns -1 for a refused
 * datagram: it is replayed, not authentic, of an epoch that we do not hold, or not a record. */
int group_keys_open(const uint8_t *datagram, size_t size, uint8_t plaintext[GROUP_MAX_DATAGRAM], unsigned *sender);

/* Wipe and free all keys. */
void group_keys_stop(void);

#endif
