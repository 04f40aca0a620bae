/* A mail server that takes everything and keeps nothing: the far end of benchmarks/wire.py.
 *
 *   cc -O2 -o fast_sink fast_sink.c && ./fast_sink PORT [-d MICROSECONDS] [-x EXTENSION]...
 *
 * One thread, epoll. It speaks PIPELINING, 8BITMIME, SMTPUTF8, CHUNKING and SIZE; -x hides one of them. -d makes
 * each letter take that long to accept, without holding up other connections. SIGUSR1 prints a line of counts on
 * stderr, SIGTERM and SIGINT print it and end. Letters are counted when their final dot or BDAT LAST has been read.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { IN_BUFFER = 256 * 1024, OUT_BUFFER = 16 * 1024, EVENTS = 64 };
enum mode { COMMAND, DATA, CHUNK };

struct peer {
    struct peer *next, *previous; /* all peers, for the delay */
    int fd;
    enum mode mode;
    int last_chunk, quitting, broken;
    uint64_t chunk_left, due; /* due: nanoseconds, 0 = not waiting */
    size_t in_length, out_length;
    char in[IN_BUFFER], out[OUT_BUFFER];
};

static struct peer *peers;
static uint64_t letters, octets, sessions, delay;
static int poller, timer;
static char greeting[512] = "250-fast-sink\r\n";

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void print_counts(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
               + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    fprintf(stderr, "letters=%lu octets=%lu sessions=%lu cpu=%.3f\n", (unsigned long)letters, (unsigned long)octets,
            (unsigned long)sessions, cpu);
}

static void say(struct peer *peer, const char *reply)
{
    size_t length = strlen(reply);
    if (peer->out_length + length > sizeof peer->out) {
        peer->broken = 1; /* it asks and asks, and never listens */
        return;
    }
    memcpy(peer->out + peer->out_length, reply, length);
    peer->out_length += length;
}

static void send_replies(struct peer *peer)
{
    if (peer->out_length && send(peer->fd, peer->out, peer->out_length, MSG_NOSIGNAL) < 0)
        peer->broken = 1;
    peer->out_length = 0;
}

static void wake_at(uint64_t due)
{
    struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(due / 1000000000u), .tv_nsec = (long)(due % 1000000000u)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

static void take_letter(struct peer *peer)
{
    letters++;
    peer->mode = COMMAND;
    if (!delay) {
        say(peer, "250 2.0.0 Ok: taken\r\n");
        return;
    }
    peer->due = now() + delay; /* the peer is not read from until then, so all timers are as long: the first rules */
    struct itimerspec running;
    timerfd_gettime(timer, &running);
    if (!running.it_value.tv_sec && !running.it_value.tv_nsec)
        wake_at(peer->due);
}

static void obey(struct peer *peer, const char *line, const char *end)
{
    if (!strncasecmp(line, "EHLO", 4) || !strncasecmp(line, "HELO", 4)) {
        say(peer, greeting);
    } else if (!strncasecmp(line, "DATA", 4)) {
        say(peer, "354 End with a dot\r\n");
        peer->mode = DATA;
    } else if (!strncasecmp(line, "BDAT ", 5)) {
        peer->chunk_left = strtoull(line + 5, NULL, 10);
        peer->last_chunk = memmem(line, (size_t)(end - line), "LAST", 4) != NULL;
        peer->mode = CHUNK;
    } else if (!strncasecmp(line, "QUIT", 4)) {
        say(peer, "221 2.0.0 Bye\r\n");
        peer->quitting = 1;
    } else {
        say(peer, "250 2.1.0 Ok\r\n");
    }
}

/* Where reading goes on; `end` itself if all was used, NULL-safe because every branch moves or stops. */
static char *consume(struct peer *peer, char *at, char *end)
{
    while (!peer->quitting && !peer->due) {
        size_t left = (size_t)(end - at);
        if (peer->mode == CHUNK) {
            size_t part = left < peer->chunk_left ? left : (size_t)peer->chunk_left;
            at += part;
            peer->chunk_left -= part;
            if (peer->chunk_left)
                break;
            if (peer->last_chunk) {
                take_letter(peer);
            } else {
                say(peer, "250 2.0.0 Ok: chunk\r\n");
                peer->mode = COMMAND;
            }
            continue;
        }
        if (peer->mode == DATA) {
            char *dot = memmem(at, left, "\r\n.\r\n", 5);
            if (!dot) {
                at = left > 4 ? end - 4 : at; /* the dot may still be coming */
                break;
            }
            at = dot + 5;
            take_letter(peer);
            continue;
        }
        char *newline = memchr(at, '\n', left);
        if (!newline)
            break;
        obey(peer, at, newline);
        at = newline + 1;
    }
    return at;
}

static void drop(struct peer *peer)
{
    close(peer->fd);
    if (peer->next)
        peer->next->previous = peer->previous;
    if (peer->previous)
        peer->previous->next = peer->next;
    else
        peers = peer->next;
    free(peer);
}

static void go_on(struct peer *peer)
{
    char *end = peer->in + peer->in_length, *at = consume(peer, peer->in, end);
    peer->in_length = (size_t)(end - at);
    memmove(peer->in, at, peer->in_length);
    send_replies(peer);
    if (peer->quitting || peer->broken || peer->in_length == sizeof peer->in)
        drop(peer);
}

static void read_from(struct peer *peer)
{
    ssize_t got = recv(peer->fd, peer->in + peer->in_length, sizeof peer->in - peer->in_length, 0);
    if (got <= 0) {
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        drop(peer);
        return;
    }
    octets += (uint64_t)got;
    peer->in_length += (size_t)got;
    if (!peer->due)
        go_on(peer);
}

static void welcome(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer) {
        close(fd);
        return;
    }
    peer->fd = fd;
    peer->next = peers;
    if (peers)
        peers->previous = peer;
    peers = peer;
    sessions++;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    say(peer, "220 fast-sink ESMTP\r\n");
    send_replies(peer);
}

static void release_due(void)
{
    uint64_t expirations, moment = now(), earliest = 0;
    if (read(timer, &expirations, sizeof expirations) < 0)
        return;
    for (struct peer *peer = peers, *next; peer; peer = next) {
        next = peer->next;
        if (peer->due && peer->due <= moment) {
            peer->due = 0;
            say(peer, "250 2.0.0 Ok: taken\r\n");
            go_on(peer);
        }
    }
    for (struct peer *peer = peers; peer; peer = peer->next)
        if (peer->due && (!earliest || peer->due < earliest))
            earliest = peer->due;
    if (earliest)
        wake_at(earliest);
}

static void read_arguments(int count, char **words)
{
    const char *known[] = {"PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "SIZE"};
    int hidden[6] = {0};
    for (int i = 2; i + 1 < count; i += 2) {
        if (!strcmp(words[i], "-d"))
            delay = strtoull(words[i + 1], NULL, 10) * 1000;
        for (int k = 0; !strcmp(words[i], "-x") && k < 6; k++)
            hidden[k] |= !strcasecmp(words[i + 1], known[k]);
    }
    for (int k = 0; k < 6; k++)
        if (!hidden[k])
            sprintf(greeting + strlen(greeting), "250-%s\r\n", known[k]);
    strcat(greeting, "250 HELP\r\n");
}

int main(int count, char **words)
{
    if (count < 2) {
        fprintf(stderr, "usage: %s PORT [-d MICROSECONDS] [-x EXTENSION]...\n", words[0]);
        return 2;
    }
    read_arguments(count, words);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 512)) {
        perror("fast_sink");
        return 1;
    }
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    int signals = signalfd(-1, &wanted, SFD_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    poller = epoll_create1(EPOLL_CLOEXEC);
    int *special[] = {&listener, &signals, &timer};
    for (int i = 0; i < 3; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = special[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, *special[i], &event);
    }
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poller, events, EVENTS, -1), release = 0;
        for (int i = 0; i < ready; i++) {
            void *who = events[i].data.ptr;
            if (who == &listener) {
                welcome(listener);
            } else if (who == &signals) {
                struct signalfd_siginfo info;
                if (read(signals, &info, sizeof info) != sizeof info)
                    continue;
                print_counts();
                if (info.ssi_signo != SIGUSR1)
                    return 0;
            } else if (who == &timer) {
                release = 1; /* after the others: it may drop a peer that has an event in this very round */
            } else {
                read_from(who);
            }
        }
        if (release)
            release_due();
    }
}
