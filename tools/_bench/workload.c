/* The process that the bench freezes: memory of a stated mix, and a voice.

   workload hold MIB     fills MIB MiB, says "ready", and sleeps in steps of 5 ms
   workload stream MIB   the same, then adds and copies arrays for ever; "speed BYTES NS" every 100 ms

   A quarter of the memory is zeros that were written, a quarter is random, half are records of 32 bytes, 8 of them
   random and 24 out of 64 patterns, which zstd -1 shrinks about 3 to 1; in stripes of 1 MiB.

   SIGUSR1 rewrites 2 % of the pages in runs of 1 MiB, SIGUSR2 2 % in single pages at random; the pages are told as
   "page FIRST COUNT", the end as "rewrote". A pause of more than 100 ms, which is what a freeze looks like from
   inside, is told as "gap BEGIN END", CLOCK_REALTIME in nanoseconds. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, STRIPE = 256, RECORD = 4, PATTERNS = 64 }; /* bytes; pages; 64-bit words; a count */
#define GAP_NS 100000000ULL
#define STEP_NS 5000000L

static uint64_t seed = 0x9E3779B97F4A7C15ULL;
static uint64_t patterns[PATTERNS][RECORD - 1];
static volatile sig_atomic_t runs_asked, pages_asked;

static uint64_t draw(void) { /* xorshift64* */
    seed ^= seed >> 12, seed ^= seed << 25, seed ^= seed >> 27;
    return seed * 0x2545F4914F6CDD1DULL;
}

static void on_signal(int number) {
    if (number == SIGUSR1) runs_asked = 1;
    else pages_asked = 1;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static void fill_page(uint64_t *words, int is_random) {
    for (int i = 0; i < PAGE / 8; i += RECORD) {
        const uint64_t *pattern = patterns[draw() % PATTERNS];
        words[i] = draw();
        for (int j = 1; j < RECORD; j++) words[i + j] = is_random ? draw() : pattern[j - 1];
    }
}

/* Content of the page's kind; what is rewritten in a zero stripe becomes records. */
static void write_page(char *memory, long page, int anew) {
    int kind = (int)(page / STRIPE % 4);
    if (kind == 0 && !anew) memset(memory + page * PAGE, 0, PAGE);
    else fill_page((uint64_t *)(memory + page * PAGE), kind == 1);
}

static void rewrite(char *memory, long pages, long run) {
    long count = pages / 50 / run;
    for (long i = 0; i < (count ? count : 1); i++) {
        long first = (long)(draw() % (uint64_t)(pages - run + 1));
        for (long page = first; page < first + run; page++) write_page(memory, page, 1);
        printf("page %ld %ld\n", first, run);
    }
    printf("rewrote\n");
}

static void hold(char *memory, long pages) {
    uint64_t before = now_ns();
    for (;;) {
        struct timespec step = {0, STEP_NS};
        nanosleep(&step, NULL);
        if (runs_asked) runs_asked = 0, rewrite(memory, pages, pages < STRIPE ? pages : STRIPE);
        if (pages_asked) pages_asked = 0, rewrite(memory, pages, 1);
        uint64_t now = now_ns();
        if (now - before > GAP_NS)
            printf("gap %llu %llu\n", (unsigned long long)before, (unsigned long long)now);
        before = now_ns();
    }
}

/* Half of the memory is added into the other half; what it holds stays numbers of any kind. */
static void stream(uint64_t *words, long count) {
    uint64_t begun = now_ns(), bytes = 0;
    for (;;)
        for (long at = 0; at < count / 2; at += 1 << 15) {
            long end = at + (1 << 15) < count / 2 ? at + (1 << 15) : count / 2;
            for (long i = at; i < end; i++) words[count / 2 + i] += words[i];
            bytes += (uint64_t)(end - at) * 24;
            uint64_t now = now_ns();
            if (now - begun > GAP_NS) {
                printf("speed %llu %llu\n", (unsigned long long)bytes, (unsigned long long)(now - begun));
                begun = now_ns(), bytes = 0;
            }
        }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    long bytes = atol(argv[2]) << 20;
    char *memory = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, on_signal);
    for (int i = 0; i < PATTERNS; i++)
        for (int j = 0; j < RECORD - 1; j++) patterns[i][j] = draw();
    for (long page = 0; page < bytes / PAGE; page++) write_page(memory, page, 0);
    printf("ready %lu\n", (unsigned long)(uintptr_t)memory);
    if (!strcmp(argv[1], "stream")) stream((uint64_t *)memory, bytes / 8);
    hold(memory, bytes / PAGE);
}
