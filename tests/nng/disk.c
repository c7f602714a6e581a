/* Makes a disk fail for processes that preload this.
 *
 * The file FASTWORKER_TEST_FAULTS has a line "fault substring", and files whose path has the
 * substring meet that fault. It is read at each call, so a test may change it at any moment.
 *
 *   full      nothing can be written (ENOSPC)
 *   readonly  nothing can be written, or opened to be written (EROFS)
 *   nosync    fsync and fdatasync fail (EIO)
 *   slow      fsync and fdatasync take two seconds
 *   flip      one bit of each write of at least 512 bytes is another one
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_asked(const char *fault, const char *path) {
    const char *control = getenv("FASTWORKER_TEST_FAULTS");
    char known[32] = "", part[256] = "";
    FILE *file;
    int found;

    if (control == NULL || path == NULL || strcmp(path, control) == 0)
        return 0;
    file = fopen(control, "r");
    if (file == NULL)
        return 0;
    found = fscanf(file, "%31s %255s", known, part) == 2;
    fclose(file);
    return found && strcmp(known, fault) == 0 && strstr(path, part) != NULL;
}

static int is_asked_of(const char *fault, int descriptor) {
    char link[64], path[4096];
    ssize_t length;

    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return is_asked(fault, path);
}

static int refuses_to_write(int descriptor) {
    if (is_asked_of("full", descriptor))
        errno = ENOSPC;
    else if (is_asked_of("readonly", descriptor))
        errno = EROFS;
    else
        return 0;
    return 1;
}

#define ORIGINAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static ssize_t flipped(int descriptor, const void *bytes, size_t count, off_t where) {
    char *copy = malloc(count);
    ssize_t written;

    memcpy(copy, bytes, count);
    copy[count / 2] ^= 16;
    written = ORIGINAL(pwrite64)(descriptor, copy, count, where);
    free(copy);
    return written;
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t where) {
    if (refuses_to_write(descriptor))
        return -1;
    if (count >= 512 && is_asked_of("flip", descriptor))
        return flipped(descriptor, bytes, count, where);
    return ORIGINAL(pwrite64)(descriptor, bytes, count, where);
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t where) {
    return pwrite64(descriptor, bytes, count, where);
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
    if (refuses_to_write(descriptor))
        return -1;
    return ORIGINAL(write)(descriptor, bytes, count);
}

int ftruncate64(int descriptor, off64_t length) {
    if (is_asked_of("readonly", descriptor)) {
        errno = EROFS;
        return -1;
    }
    return ORIGINAL(ftruncate64)(descriptor, length);
}

int ftruncate(int descriptor, off_t length) {
    return ftruncate64(descriptor, length);
}

static int sync_or_fail(int descriptor, int (*original)(int)) {
    if (is_asked_of("nosync", descriptor)) {
        errno = EIO;
        return -1;
    }
    if (is_asked_of("slow", descriptor))
        sleep(2);
    return original(descriptor);
}

int fsync(int descriptor) {
    return sync_or_fail(descriptor, ORIGINAL(fsync));
}

int fdatasync(int descriptor) {
    return sync_or_fail(descriptor, ORIGINAL(fdatasync));
}

#define OPEN(name)                                                                     \
    int name(const char *path, int flags, ...) {                                       \
        va_list rest;                                                                  \
        int mode;                                                                      \
        va_start(rest, flags);                                                         \
        mode = va_arg(rest, int);                                                      \
        va_end(rest);                                                                  \
        if ((flags & O_ACCMODE) != O_RDONLY && is_asked("readonly", path)) {           \
            errno = EROFS;                                                             \
            return -1;                                                                 \
        }                                                                              \
        return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, \
                                                                          mode);       \
    }

OPEN(open)
OPEN(open64)
