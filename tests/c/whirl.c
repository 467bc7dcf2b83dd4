/* Never returns and never rests: sorts without end, with a comparison that contradicts itself, between calls of the host. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static unsigned state = 1;

static int contradict(const void *a, const void *b) {
    (void)a, (void)b;
    state = state * 1664525u + 1013904223u;
    return (int)(state >> 16) % 3 - 1;
}

int main(void) {
    int numbers[4096] = {0};
    fputs("whirling\n", stderr);
    for (;;) {
        qsort(numbers, sizeof numbers / sizeof *numbers, sizeof *numbers, contradict);
        numbers[0] = (int)time(NULL);
    }
}
