/* Takes memory in pieces of every size, touches all of it, and keeps it; a refusal does not stop it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every piece goes through here, so that no compiler may take what is never read for what never was. */
static char *volatile last;

int main(void) {
    size_t held = 0;
    fputs("hoarding\n", stderr);
    for (size_t size = 1;; size = size * 3 % 1000003 + 1) {
        char *piece = malloc(size);
        if (piece == NULL) {
            fprintf(stderr, "refused at %zu bytes\n", held);
            abort();
        }
        memset(piece, 0xa5, size);
        last = piece;
        held += size;
    }
}
