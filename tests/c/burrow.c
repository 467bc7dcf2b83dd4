/* Sinks through its own stack: frames of a kilobyte, without end, whose addresses escape so that none is optimised away. */
#include <stdio.h>
#include <string.h>

static volatile char *deepest;

static int burrow(int depth) {
    char frame[1024];
    memset(frame, depth, sizeof frame);
    deepest = frame;
    return burrow(depth + 1) + frame[depth & 1023];
}

int main(void) {
    fputs("burrowing\n", stderr);
    return burrow(0);
}
