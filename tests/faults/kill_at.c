/* Preloaded into a process: it dies by SIGKILL right before its n-th change of the file system, or in the middle of a
 * write. Which libc functions count is the list at the end; whoever calls them, Python or a compiled library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long counted = 0, deadly = 0, armed = 0;

/* Count from here on; die at the n-th point, never for 0. */
void kill_at(long n) {
    counted = 0;
    deadly = n;
    armed = 1;
}

/* Points passed so far; none counts any more. */
long points_passed(void) {
    armed = 0;
    return counted;
}

static int is_deadly(void) { return armed && atomic_fetch_add(&counted, 1) + 1 == deadly; }
static void die(void) { kill(getpid(), SIGKILL); pause(); }
static void point(void) { if (is_deadly()) die(); }
static int is_file(int file) { struct stat about; return fstat(file, &about) == 0 && S_ISREG(about.st_mode); }

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, #name)

#define COUNTED(result, name, parameters, arguments, ...) \
    result name parameters { REAL(result, name, __VA_ARGS__); point(); return real arguments; }

#define WRITING(name, parameters, arguments, half, ...) \
    ssize_t name parameters { \
        REAL(ssize_t, name, __VA_ARGS__); \
        if (!is_file(file)) return real arguments; \
        point(); \
        if (is_deadly()) { real half; die(); } \
        return real arguments; \
    }

#define OPENING(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; va_end(rest); \
        REAL(int, name, const char *, int, ...); \
        if (flags & O_CREAT) point(); \
        return real(path, flags, mode); \
    }

#define OPENING_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; va_end(rest); \
        REAL(int, name, int, const char *, int, ...); \
        if (flags & O_CREAT) point(); \
        return real(folder, path, flags, mode); \
    }

OPENING(open)
OPENING(open64)
OPENING_AT(openat)
OPENING_AT(openat64)
WRITING(write, (int file, const void *data, size_t size), (file, data, size), (file, data, size / 2),
        int, const void *, size_t)
WRITING(pwrite64, (int file, const void *data, size_t size, off_t at), (file, data, size, at),
        (file, data, size / 2, at), int, const void *, size_t, off_t)
COUNTED(int, ftruncate64, (int file, off_t size), (file, size), int, off_t)
COUNTED(int, fsync, (int file), (file), int)
COUNTED(int, fdatasync, (int file), (file), int)
COUNTED(int, rename, (const char *from, const char *to), (from, to), const char *, const char *)
COUNTED(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to),
        int, const char *, int, const char *)
COUNTED(int, mkdir, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
COUNTED(int, unlink, (const char *path), (path), const char *)
COUNTED(int, unlinkat, (int folder, const char *path, int flags), (folder, path, flags), int, const char *, int)
COUNTED(int, rmdir, (const char *path), (path), const char *)
