/* The keys of a group in wolfSSL: KEY_STATE goes in, and plaintexts become datagrams and back. No sockets. */
#ifndef GROUP_KEYS_H
#define GROUP_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GROUP_SENDERS = 256, GROUP_MAX_DATAGRAM = 2048, GROUP_MAX_PLAINTEXT = 1024 };

/* Once, before all else. False when this wolfSSL cannot do multicast DTLS. */
bool group_keys_start(void);

/* Take the payload of a KEY_STATE from keys.sock: install what is new, send with the key that is marked, drop what is
 * no longer listed. Calls `installed` for every listed key that can now be received with, to be acknowledged to the
 * daemon. Returns false when we are to send with a key whose sequence numbers we do not know any more: ask for a new
 * one (KEY_NEW, sender restarted). */
bool group_keys_take_state(const uint8_t *state, size_t size, void (*installed)(unsigned epoch));

/* True while every key that we hold may have been sent with before this program began: nothing is received. Ask for a
 * new key (KEY_NEW, receiver began). */
bool group_keys_are_earlier(void);

/* Receive with those keys too, when no new one comes. Calls `installed` for each. */
void group_keys_receive_earlier(void (*installed)(unsigned epoch));

/* Make the datagram that carries `size` bytes (at most GROUP_MAX_PLAINTEXT) to the group; returns its size, or 0 when
 * we may not send now. The key should be replaced soon (KEY_NEW) when `*worn` is set. */
size_t group_keys_seal(const void *plaintext, size_t size, uint8_t datagram[GROUP_MAX_DATAGRAM], bool *worn);

/* Read a datagram from the network. Returns the size of the plaintext and who sent it, 0 for a datagram of our own
 * that multicast loopback has brought back or one from before we began, or -1 when it is refused: replayed, not authentic, of an epoch that is not
 * held, or no record at all. */
int group_keys_open(const uint8_t *datagram, size_t size, uint8_t plaintext[GROUP_MAX_DATAGRAM], unsigned *sender);

/* Wipe and forget everything. */
void group_keys_stop(void);

#endif
