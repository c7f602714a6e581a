/* Resolves names that end in ".test" from a file, for processes that preload this.
 *
 * Each line of the file FASTWORKER_TEST_NAMES is "name address". It is read at each
 * question, so a test may change it at any moment. What it does not have does not
 * exist; all other names are the C library's own.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*resolver)(const char *, const char *, const struct addrinfo *,
                        struct addrinfo **);

static int find(const char *name, char address[64]) {
    const char *path = getenv("FASTWORKER_TEST_NAMES");
    FILE *file = path == NULL ? NULL : fopen(path, "r");
    char known[256];
    int found = 0;

    while (file != NULL && !found && fscanf(file, "%255s %63s", known, address) == 2)
        found = strcmp(known, name) == 0;
    if (file != NULL)
        fclose(file);
    return found;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **result) {
    resolver original = (resolver)dlsym(RTLD_NEXT, "getaddrinfo");
    size_t length = name == NULL ? 0 : strlen(name);
    char address[64];

    if (length < 5 || strcmp(name + length - 5, ".test") != 0)
        return original(name, service, hints, result);
    if (!find(name, address))
        return EAI_NONAME;
    return original(address, service, hints, result);
}
