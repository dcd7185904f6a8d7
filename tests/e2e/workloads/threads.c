/* Threads that meet at a futex barrier, a shared file mapping, an unlinked file in /tmp that is
 * read back at the end, absolute sleeps.  Its current directory is the state dir. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4, STEPS = 50, ROUNDS = 200000 };

static pthread_barrier_t barrier;
static uint64_t sums[THREADS];
static uint64_t *map;

static void *work(void *argument)
{
    long me = (long)argument;
    uint64_t x = me + 1;
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < ROUNDS; i++)
            x = x * 6364136223846793005u + 1442695040888963407u;
        sums[me] += x >> 11;
        map[me * STEPS + step] = sums[me];
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void fail(const char *what)
{
    perror(what);
    exit(3);
}

static void add_ns(struct timespec *when, long ns)
{
    when->tv_nsec += ns;
    when->tv_sec += when->tv_nsec / 1000000000;
    when->tv_nsec %= 1000000000;
}

static double seconds(const struct timespec *t)
{
    return t->tv_sec + t->tv_nsec / 1e9;
}

int main(void)
{
    long pace_ns = atof(getenv("PACE")) * 1e9;
    size_t bytes = THREADS * STEPS * sizeof *map;
    int file = open("map.bin", O_RDWR | O_CREAT, 0644);
    if (file < 0 || ftruncate(file, bytes) < 0)
        fail("map.bin");
    map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
        fail("mmap");
    char name[] = "/tmp/threads-XXXXXX";
    int hidden = mkstemp(name);
    if (hidden < 0 || unlink(name) < 0)
        fail(name);
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    pthread_t threads[THREADS];
    for (long n = 0; n < THREADS; n++)
        pthread_create(&threads[n], NULL, work, (void *)n);
    struct timespec next, before, now;
    clock_gettime(CLOCK_MONOTONIC, &next);
    before = next;
    for (int step = 0; step < STEPS; step++) {
        pthread_barrier_wait(&barrier);
        uint64_t sum = 0;
        for (int n = 0; n < THREADS; n++)
            sum ^= sums[n];
        dprintf(hidden, "%d %lx\n", step, sum);
        printf("step %d %lx\n", step, sum);
        fflush(stdout);
        if (pace_ns && access(getenv("HURRY"), F_OK) != 0) {
            add_ns(&next, pace_ns);
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
            clock_gettime(CLOCK_MONOTONIC, &now);
            if (seconds(&now) < seconds(&before) || seconds(&now) > seconds(&before) + 20)
                printf("the clock jumped\n");
            before = now;
        }
        pthread_barrier_wait(&barrier);
    }
    for (int n = 0; n < THREADS; n++)
        pthread_join(threads[n], NULL);
    char data[4096];
    uint64_t digest = 14695981039346656037u;
    lseek(hidden, 0, SEEK_SET);
    for (ssize_t got; (got = read(hidden, data, sizeof data)) > 0;)
        for (ssize_t i = 0; i < got; i++)
            digest = (digest ^ (unsigned char)data[i]) * 1099511628211u;
    printf("hidden %lx\n", digest);
    return 0;
}
