/* A session manager in C: multicast DTLS with wolfSSL, under the group key of the local pskkeyd.
 *
 * It is a test program, and an example to start from. It follows the key state on keys.sock, sends numbered datagrams
 * at a steady rate, and receives those of the other members. At its end it prints the number of lost datagrams:
 *
 *     cc -o session_manager session_manager.c group_keys.c -lwolfssl
 *     ./session_manager --group 239.255.0.1 --port 12345 --interface 10.0.0.1 --rate 50 --duration 10
 *
 * group_keys.c has the use of the keys. This file has the rest: the daemon, the network, and the numbers.
 */
#define _GNU_SOURCE /* ppoll, explicit_bzero, memmem */
#include "group_keys.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A packet on keys.sock: version u8 = 1 | type u8 | size u16, big-endian | payload */
enum { KEY_WATCH = 2, KEY_STATE = 3, KEY_ACK = 4, KEY_NEW = 5, ERROR = 31 };
enum { PACKET_HEAD = 4, MAX_PACKET = PACKET_HEAD + 8192, WATCH_SIZE = 9 };
enum { WILL_SEND = 1, SEQUENCE_HIGH_WATER = 2, SENDER_RESTARTED = 3, RECEIVER_BEGAN = 4 };
enum { DENIED = 4 };    /* exit code, the same as in pskkeyctl */
enum { AT_ONCE = 256 }; /* most datagrams that are read before other work */

#define SECOND INT64_C(1000000000)
#define FIRST_DELAY (SECOND / 40) /* before the next attempt to connect; doubled each time */
#define LAST_DELAY (SECOND / 5)   /* the longest: a new daemon waits for us, but not long */
#define ASKS_EVERY (2 * SECOND)   /* for a new key, while we have none for reception */
#define HEARS_WITHIN (10 * SECOND) /* after the first key; then we receive with earlier keys */

struct sender { /* the datagrams of one sender id */
    uint64_t run, next, received, lost;
};

static struct sender senders[GROUP_SENDERS];
static uint64_t sent, received, refused;
static int udp, daemon_socket = -1;
static uint8_t packet[MAX_PACKET]; /* the bytes from the daemon that are not processed yet */
static size_t packet_size;
static bool was_let_in; /* a key state has come */
static struct sockaddr_in group = {.sin_family = AF_INET};
static volatile sig_atomic_t stopped;

static void stop(int number) { stopped = number; }

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* --- the daemon -------------------------------------------------------------------------------------------------- */

/* Before the first key state, the operator must grant access. Later, the cause may be a restart of the daemon. */
static void denied(const char *why) {
    if (was_let_in)
        return;
    fprintf(stderr, "keys.sock: %s; run as root or in the group pskkey (usermod -aG pskkey USER)\n", why);
    exit(DENIED);
}

/* The keys that we hold stay in use while the daemon is away. */
static void disconnect(const char *why) {
    printf("keys.sock: %s\n", why);
    close(daemon_socket);
    daemon_socket = -1;
    explicit_bzero(packet, sizeof packet); /* it had keys */
    packet_size = 0;
}

static void tell_daemon(uint8_t type, const uint8_t *payload, uint8_t size) {
    uint8_t message[PACKET_HEAD + WATCH_SIZE] = {1, type, 0, size};
    memcpy(message + PACKET_HEAD, payload, size);
    ssize_t length = PACKET_HEAD + size;
    if (daemon_socket >= 0 && send(daemon_socket, message, (size_t)length, MSG_NOSIGNAL) != length)
        disconnect(strerror(errno));
}

static void acknowledge(unsigned epoch) {
    tell_daemon(KEY_ACK, (uint8_t[]){(uint8_t)(epoch >> 8), (uint8_t)epoch}, 2);
}

/* After a reconnection, `run` shows the daemon that we still know our sequence numbers. */
static void connect_daemon(const char *path, bool will_send, uint64_t run) {
    uint8_t watch[WATCH_SIZE] = {will_send ? WILL_SEND : 0};
    run = htobe64(run);
    memcpy(watch + 1, &run, sizeof run);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    daemon_socket = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (daemon_socket < 0)
        fail("socket");
    if (connect(daemon_socket, (struct sockaddr *)&address, sizeof address) == 0) {
        tell_daemon(KEY_WATCH, watch, WATCH_SIZE);
        return;
    }
    int error = errno;
    disconnect(strerror(error));
    if (error == EACCES || error == EPERM)
        denied(strerror(error));
}

/* Returns whether a key state came. */
static bool take_packet(uint8_t type, const uint8_t *payload, size_t size) {
    if (type == KEY_STATE && !group_keys_take_state(payload, size, acknowledge))
        tell_daemon(KEY_NEW, (uint8_t[]){SENDER_RESTARTED}, 1);
    else if (type == ERROR) /* readable JSON; then the daemon closes the connection */
        printf("keys.sock: %.*s\n", (int)size, (const char *)payload);
    if (type == ERROR && memmem(payload, size, "\"denied\"", 8) != NULL)
        denied("the daemon does not let us in");
    was_let_in |= type == KEY_STATE;
    return type == KEY_STATE;
}

/* Request a key that we can receive with. If none comes in time, receive with the earlier keys. */
static void come_to_hear(void) {
    static int64_t begin, next;
    if (!was_let_in || now() < next)
        return;
    begin = begin == 0 ? now() : begin;
    next = now() + ASKS_EVERY;
    if (!group_keys_are_earlier())
        return;
    if (now() - begin < HEARS_WITHIN)
        tell_daemon(KEY_NEW, (uint8_t[]){RECEIVER_BEGAN}, 1);
    else
        group_keys_receive_earlier(acknowledge);
}

/* Returns whether a key state came. */
static bool read_daemon(void) {
    ssize_t size = recv(daemon_socket, packet + packet_size, sizeof packet - packet_size, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (size <= 0) {
        disconnect(size == 0 ? "closed by the daemon" : strerror(errno));
        return false;
    }
    packet_size += (size_t)size;
    size_t done = 0;
    bool state_came = false;
    while (packet_size - done >= PACKET_HEAD) {
        const uint8_t *head = packet + done;
        size_t end = PACKET_HEAD + (size_t)(head[2] << 8 | head[3]);
        if (head[0] != 1 || end > sizeof packet) {
            disconnect("not a packet of protocol version 1");
            return state_came;
        }
        if (packet_size - done < end)
            break;
        state_came |= take_packet(head[1], head + PACKET_HEAD, end - PACKET_HEAD);
        if (daemon_socket < 0)
            return state_came;
        done += end;
    }
    packet_size -= done;
    memmove(packet, packet + done, packet_size);
    explicit_bzero(packet + packet_size, sizeof packet - packet_size);
    return state_came;
}

/* --- the network ------------------------------------------------------------------------------------------------- */

static void join_group(const char *address, int port, const char *interface) {
    struct ip_mreq member = {0};
    int on = 1, off = 0, buffer = 4 << 20;
    if (inet_pton(AF_INET, address, &group.sin_addr) != 1 || inet_pton(AF_INET, interface, &member.imr_interface) != 1) {
        fprintf(stderr, "--group and --interface are IPv4 addresses\n");
        exit(2);
    }
    group.sin_port = htons((uint16_t)port);
    member.imr_multiaddr = group.sin_addr;
    udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (udp < 0 || setsockopt(udp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        /* Only CAP_NET_ADMIN allows more than net.core.rmem_max. Without it, we get at most that size. */
        (setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) < 0 &&
         setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer) < 0) ||
        setsockopt(udp, IPPROTO_IP, IP_MULTICAST_ALL, &off, sizeof off) < 0 ||
        setsockopt(udp, IPPROTO_IP, IP_MULTICAST_IF, &member.imr_interface, sizeof member.imr_interface) < 0 ||
        bind(udp, (struct sockaddr *)&group, sizeof group) < 0 ||
        setsockopt(udp, IPPROTO_IP, IP_ADD_MEMBERSHIP, &member, sizeof member) < 0)
        fail("cannot join the group");
}

/* The payload is two big-endian u64: a random number from the sender's start, and a count from 0. */
static void count(struct sender *sender, const uint8_t *payload, int size) {
    uint64_t numbers[2];
    received++;
    sender->received++;
    if (size != (int)sizeof numbers)
        return; /* from a program without numbers */
    memcpy(numbers, payload, sizeof numbers);
    uint64_t run = be64toh(numbers[0]), number = be64toh(numbers[1]);
    if (run != sender->run) { /* the first datagram of this run */
        sender->run = run;
    } else if (number < sender->next) { /* the datagram was late, not lost */
        sender->lost--;
        return;
    } else {
        sender->lost += number - sender->next;
    }
    sender->next = number + 1;
}

static void read_group(void) {
    uint8_t datagram[GROUP_MAX_DATAGRAM], plaintext[GROUP_MAX_DATAGRAM];
    for (int i = 0; i < AT_ONCE; i++) {
        ssize_t size = recv(udp, datagram, sizeof datagram, 0);
        if (size < 0)
            return;
        unsigned sender;
        int length = group_keys_open(datagram, (size_t)size, plaintext, &sender);
        if (length > 0)
            count(&senders[sender], plaintext, length);
        else if (length < 0 && was_let_in) /* before the first key we cannot judge datagrams */
            refused++;
    }
}

static void send_one(uint64_t run) {
    uint64_t numbers[] = {htobe64(run), htobe64(sent)};
    uint8_t datagram[GROUP_MAX_DATAGRAM];
    bool worn = false;
    size_t size = group_keys_seal(numbers, sizeof numbers, datagram, &worn);
    if (worn)
        tell_daemon(KEY_NEW, (uint8_t[]){SEQUENCE_HIGH_WATER}, 1);
    if (size == 0)
        return; /* we may not send now: without a number, this datagram does not count as lost */
    sent++;
    if (sendto(udp, datagram, size, 0, (struct sockaddr *)&group, sizeof group) < 0)
        perror("sendto");
}

static void report(void) {
    unsigned long long lost = 0;
    for (int id = 0; id < GROUP_SENDERS; id++) {
        lost += senders[id].lost;
        if (senders[id].received > 0)
            printf("sender %d: received %llu, lost %llu\n", id, (unsigned long long)senders[id].received,
                   (unsigned long long)senders[id].lost);
    }
    printf("sent %llu, received %llu, lost %llu, refused %llu\n", (unsigned long long)sent,
           (unsigned long long)received, lost, (unsigned long long)refused);
}

int main(int argc, char **argv) {
    const char *path = getenv("PSKKEY_KEYS_SOCKET"), *address = "239.255.0.1", *interface = "0.0.0.0";
    double rate = 50, duration = 0; /* datagrams/s, 0: only receive; seconds, 0: until SIGTERM or SIGINT */
    int port = 12345, option;
    static const struct option options[] = {{"keys", 1, NULL, 'k'},      {"group", 1, NULL, 'g'}, {"port", 1, NULL, 'p'},
                                            {"interface", 1, NULL, 'i'}, {"rate", 1, NULL, 'r'},  {"duration", 1, NULL, 'd'},
                                            {NULL, 0, NULL, 0}};
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'k': path = optarg; break;
        case 'g': address = optarg; break;
        case 'p': port = atoi(optarg); break;
        case 'i': interface = optarg; break;
        case 'r': rate = atof(optarg); break;
        case 'd': duration = atof(optarg); break;
        default: return 2;
        }
    }
    if (path == NULL)
        path = "/run/pskkey/keys.sock";
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    uint64_t run;
    if (getrandom(&run, sizeof run, 0) != sizeof run || !group_keys_start())
        fail("wolfSSL cannot do multicast DTLS");
    join_group(address, port, interface);

    int64_t begin = now(), next_send = begin, next_attempt = begin, delay = FIRST_DELAY;
    while (!stopped && (duration <= 0 || now() - begin < (int64_t)(duration * SECOND))) {
        if (daemon_socket < 0 && now() >= next_attempt) {
            connect_daemon(path, rate > 0, run);
            next_attempt = now() + delay;
            delay = delay < LAST_DELAY / 2 ? 2 * delay : LAST_DELAY;
        }
        come_to_hear();
        int64_t wait = SECOND / 20;
        if (rate > 0) {
            if (now() >= next_send) {
                send_one(run);
                next_send += (int64_t)(SECOND / rate); /* from the due time, so that the rate does not drift */
            }
            wait = next_send - now() < wait ? next_send - now() : wait;
        }
        struct timespec patience = {0, wait > 0 ? wait : 0};
        struct pollfd sources[] = {{udp, POLLIN, 0}, {daemon_socket, POLLIN, 0}};
        if (ppoll(sources, 2, &patience, NULL) <= 0)
            continue;
        if (sources[1].revents != 0 && read_daemon()) /* first, because waiting datagrams may need new keys */
            delay = FIRST_DELAY;
        if (sources[0].revents != 0)
            read_group();
    }
    group_keys_stop();
    report();
    return 0;
}
