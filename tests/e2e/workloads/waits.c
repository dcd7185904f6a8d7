/* Waits with a time limit in four threads of two processes, of which none catches a signal: that one of them is
 * interrupted is told.  Prints "step N " after each wait of the first. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
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

int main(void)
{
    pthread_t threads[2];
    setvbuf(stdout, NULL, _IOLBF, 0);
    pid_t child = fork();
    if (child == 0) {
        for (int step = 0; step < STEPS; step++)
            if (nanosleep(&wait_time, NULL) != 0)
                printf("a sleep: %s\n", strerror(errno));
        return 0;
    }
    pthread_create(&threads[0], NULL, polls, NULL);
    pthread_create(&threads[1], NULL, waits_for_a_futex, NULL);
    for (int step = 1; step <= STEPS; step++) {
        in_poll("the first thread's poll");
        printf("step %d \n", step);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    waitpid(child, NULL, 0);
    return 0;
}
