/* A disk that fails, or loses power: loaded before the C library (LD_PRELOAD).
 *
 * FAULTS_FOLDER: files in this folder have the faults.
 * FAULTS_FILE: what is wrong now, read at each call; no such file: nothing is.
 *   "fsync 5"     fsync and fdatasync fail with errno 5, and what was written before
 *                 them never reaches the disk, as on Linux
 *   "write 28"    write and pwrite fail with errno 28
 *   "slow 200"    fsync and fdatasync take so many milliseconds
 * FAULTS_DISK: a folder in which each file is kept, under the number of its inode,
 *   as it is on the disk: with what was synced, and nothing else. "names" there has
 *   the names and numbers that were synced by the folder.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 65536
#define FILES 64

static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off64_t);
static int (*real_unlink)(const char *);
static int (*real_rename)(const char *, const char *);

/* What was written to a file since its last sync. */
static struct dirty {
    ino_t inode;
    off64_t shortest;
    unsigned char pages[PAGES];
} files[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
}

static int is_ours(int fd, char *path) {
    const char *folder = getenv("FAULTS_FOLDER");
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0 || folder == NULL) return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

/* The number that follows this word in FAULTS_FILE, or 0. */
static int fault(const char *word) {
    const char *name = getenv("FAULTS_FILE");
    char text[64] = "", found[32] = "";
    int number = 0, saved = errno;
    int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        ssize_t length = read(fd, text, sizeof text - 1);
        if (length > 0 && sscanf(text, "%31s %d", found, &number) == 2 && strcmp(found, word))
            number = 0;
        close(fd);
    }
    errno = saved;
    return number;
}

static struct dirty *dirty_of(int fd) {
    struct stat stat;
    if (getenv("FAULTS_DISK") == NULL || fstat(fd, &stat) || !S_ISREG(stat.st_mode)) return NULL;
    for (int i = 0; i < FILES; i++) {
        if (files[i].inode == 0) {
            files[i].inode = stat.st_ino;
            files[i].shortest = stat.st_size;
        }
        if (files[i].inode == stat.st_ino) return &files[i];
    }
    abort();
}

/* The number of this file may be used anew. */
static void forget(const char *path) {
    struct stat stat;
    char name[PATH_MAX];
    if (getenv("FAULTS_DISK") == NULL || lstat(path, &stat) || stat.st_nlink > 1) return;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < FILES; i++)
        if (files[i].inode == stat.st_ino) {
            memset(&files[i], 0, sizeof files[i]);
            files[i].inode = (ino_t)-1;
        }
    pthread_mutex_unlock(&lock);
    snprintf(name, sizeof name, "%s/%lu", getenv("FAULTS_DISK"), stat.st_ino);
    real_unlink(name);
}

int unlink(const char *path) {
    forget(path);
    return real_unlink(path);
}

int rename(const char *old, const char *new) {
    forget(new);
    return real_rename(old, new);
}

static void note_write(int fd, off64_t offset, ssize_t size) {
    if (size <= 0) return;
    pthread_mutex_lock(&lock);
    struct dirty *dirty = dirty_of(fd);
    if (dirty)
        for (off64_t page = offset / PAGE; page <= (offset + size - 1) / PAGE; page++) {
            if (page >= PAGES) abort();
            dirty->pages[page] = 1;
        }
    pthread_mutex_unlock(&lock);
}

static void keep_names(const char *folder) {
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s/names", getenv("FAULTS_DISK"));
    FILE *names = fopen(name, "w");
    DIR *listing = opendir(folder);
    struct dirent *entry;
    while (names && listing && (entry = readdir(listing)))
        if (entry->d_type == DT_REG) fprintf(names, "%s %lu\n", entry->d_name, entry->d_ino);
    if (listing) closedir(listing);
    if (names) fclose(names);
}

/* Put on the disk what was written to this file, or forget that it has to be. */
static void keep(int fd, const char *path, int is_lost) {
    struct stat stat;
    if (getenv("FAULTS_DISK") == NULL || fstat(fd, &stat)) return;
    if (S_ISDIR(stat.st_mode)) {
        if (!is_lost) keep_names(path);
        return;
    }
    pthread_mutex_lock(&lock);
    struct dirty *dirty = dirty_of(fd);
    char name[PATH_MAX], page[PAGE];
    snprintf(name, sizeof name, "%s/%lu", getenv("FAULTS_DISK"), stat.st_ino);
    int disk = open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (disk < 0 || !dirty) abort();
    if (!is_lost && file >= 0) {
        struct stat kept;
        if (!fstat(disk, &kept) && kept.st_size > dirty->shortest)
            real_ftruncate(disk, dirty->shortest);
        for (off64_t number = 0; number * PAGE < stat.st_size; number++) {
            if (!dirty->pages[number]) continue;
            ssize_t size = pread(file, page, PAGE, number * PAGE);
            if (size > 0) real_pwrite(disk, page, size, number * PAGE);
        }
        real_ftruncate(disk, stat.st_size);
    }
    memset(dirty->pages, 0, sizeof dirty->pages);
    dirty->shortest = stat.st_size;
    if (file >= 0) close(file);
    close(disk);
    pthread_mutex_unlock(&lock);
}

static int sync_file(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    if (!is_ours(fd, path)) return real(fd);
    int wrong = fault("fsync"), slow = fault("slow");
    if (slow) {
        struct timespec pause = {slow / 1000, slow % 1000 * 1000000L};
        nanosleep(&pause, NULL);
    }
    if (wrong) {
        keep(fd, path, 1);
        errno = wrong;
        return -1;
    }
    int result = real(fd);
    if (result == 0) keep(fd, path, 0);
    return result;
}

int fsync(int fd) { return sync_file(fd, real_fsync); }
int fdatasync(int fd) { return sync_file(fd, real_fdatasync); }

static ssize_t write_at(int fd, const void *data, size_t size, off64_t offset) {
    char path[PATH_MAX];
    if (!is_ours(fd, path)) return real_pwrite(fd, data, size, offset);
    int wrong = fault("write");
    if (wrong) {
        errno = wrong;
        return -1;
    }
    ssize_t written = real_pwrite(fd, data, size, offset);
    note_write(fd, offset, written);
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return write_at(fd, data, size, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    return write_at(fd, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size) {
    char path[PATH_MAX];
    if (fd < 3 || !is_ours(fd, path)) return real_write(fd, data, size);
    int wrong = fault("write");
    if (wrong) {
        errno = wrong;
        return -1;
    }
    off64_t offset = lseek64(fd, 0, SEEK_CUR);
    ssize_t written = real_write(fd, data, size);
    if (offset >= 0) note_write(fd, offset, written);
    return written;
}

static int shorten(int fd, off64_t size) {
    char path[PATH_MAX];
    int result = real_ftruncate(fd, size);
    if (result == 0 && is_ours(fd, path)) {
        pthread_mutex_lock(&lock);
        struct dirty *dirty = dirty_of(fd);
        if (dirty && dirty->shortest > size) dirty->shortest = size;
        pthread_mutex_unlock(&lock);
    }
    return result;
}

int ftruncate(int fd, off_t size) { return shorten(fd, size); }
int ftruncate64(int fd, off64_t size) { return shorten(fd, size); }
