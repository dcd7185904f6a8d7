/* Waits with a time limit in seven threads of two processes, of which none catches a signal: that one of them is
 * interrupted is told.  Prints "step N " after each wait of the first. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 40, WAIT_MS = 100 };

static const struct timespec wait_time = {0, WAIT_MS * 1000000};

static void in_poll(const char *who)
{
    struct pollfd none = {-1, 0, 0};
    if (poll(&none, 1, WAIT_MS) != 0)
        printf("%s: %s\n", who, strerror(errno));
}

static void *polls(void *unused)
{
    for (int step = 0; step < STEPS; step++)
        in_poll("a thread's poll");
    return unused;
}

static void *waits_for_a_futex(void *unused)
{
    int word = 0;
    for (int step = 0; step < STEPS; step++)
        if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &wait_time, 0, 0) != -1 || errno != ETIMEDOUT)
            printf("a futex: %s\n", strerror(errno));
    return unused;
}

static void *waits_for_events(void *unused)
{
    struct epoll_event event;
    int epoll = epoll_create1(0);
    for (int step = 0; step < STEPS; step++)
        if (epoll_wait(epoll, &event, 1, WAIT_MS) != 0)
            printf("an epoll: %s\n", strerror(errno));
    return unused;
}

static void *waits_for_a_signal(void *unused)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    for (int step = 0; step < STEPS; step++)
        if (sigtimedwait(&signals, NULL, &wait_time) != -1 || errno != EAGAIN)
            printf("a signal: %s\n", strerror(errno));
    return unused;
}

static void *waits_for_data(void *unused)
{
    char byte;
    int pair[2];
    struct timeval limit = {0, WAIT_MS * 1000};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    for (int step = 0; step < STEPS; step++)
        if (recv(pair[0], &byte, 1, 0) != -1 || errno != EAGAIN)
            printf("data: %s\n", strerror(errno));
    return unused;
}

static void *(*const others[])(void *) = {polls, waits_for_a_futex, waits_for_events, waits_for_a_signal, waits_for_data};
enum { OTHERS = sizeof others / sizeof *others };

int main(void)
{
    pthread_t threads[OTHERS];
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    pid_t child = fork();
    if (child == 0) {
        for (int step = 0; step < STEPS; step++)
            if (nanosleep(&wait_time, NULL) != 0)
                printf("a sleep: %s\n", strerror(errno));
        return 0;
    }
    for (int i = 0; i < OTHERS; i++)
        pthread_create(&threads[i], NULL, others[i], NULL);
    for (int step = 1; step <= STEPS; step++) {
        in_poll("the first thread's poll");
        printf("step %d \n", step);
    }
    for (int i = 0; i < OTHERS; i++)
        pthread_join(threads[i], NULL);
    waitpid(child, NULL, 0);
    return 0;
}
