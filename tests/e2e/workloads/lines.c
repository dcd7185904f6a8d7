/* lines COUNT BURSTS: numbered lines to stdout, as fast as the reader takes them; with BURSTS a pause of
 * PACE seconds after each of that many equal portions. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **arguments)
{
    long lines = atol(arguments[1]), bursts = count > 2 ? atol(arguments[2]) : 0;
    long portion = bursts ? lines / bursts : lines + 1;
    double pace = atof(getenv("PACE"));
    struct timespec pause = {(long)pace, (long)(pace * 1e9) % 1000000000};
    for (long line = 0; line < lines; line++) {
        printf("%09ld abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqr\n", line);
        if (line % portion == portion - 1 && bursts && pace > 0 && access(getenv("HURRY"), F_OK) != 0)
            nanosleep(&pause, NULL);
    }
    return 0;
}
