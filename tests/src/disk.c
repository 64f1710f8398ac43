// Simulates a failing disk. A shared library for LD_PRELOAD: from a chosen call on, system calls that write to selected
// files fail in the process under test.
//
// Environment variables:
// KEYWARD_TEST_DISK: path of a file that the test and this library map into memory, with the content of `struct disk`:
//   five 64-bit integers in native byte order.
// KEYWARD_TEST_DISK_FILES: selects files. A call counts, and can fail, if the path of its file contains this text.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

struct disk {
  uint64_t calls;   // number of calls so far
  uint64_t first;   // number of the first call that fails, from 1; 0: no call fails
  uint64_t count;   // number of consecutive calls that fail, beginning with `first`
  uint64_t error;   // errno of the failing calls
  uint64_t failed;  // number of calls that have failed so far
};

static struct disk *disk;
static const char *files;

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("KEYWARD_TEST_DISK");
  files = getenv("KEYWARD_TEST_DISK_FILES");
  int fd = path && files ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *shared = mmap(NULL, sizeof *disk, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (shared != MAP_FAILED) disk = shared;
}

// Counts a call on the file `fd`. Returns 1 and sets errno if the call must fail; returns 0 otherwise.
static int fails(int fd) {
  if (!disk) return 0;
  char link[64], path[1024];
  int saved = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  errno = saved;
  if (length < 0) return 0;
  path[length] = 0;
  if (!strstr(path, files)) return 0;
  uint64_t call = __atomic_add_fetch(&disk->calls, 1, __ATOMIC_SEQ_CST);
  uint64_t first = __atomic_load_n(&disk->first, __ATOMIC_SEQ_CST);
  if (!first || call < first || call - first >= disk->count) return 0;
  __atomic_add_fetch(&disk->failed, 1, __ATOMIC_SEQ_CST);
  errno = (int)disk->error;
  return 1;
}

// The implementation of a function in the C library.
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// Defines a replacement of the function `name` that returns -1 if `fails`, and calls the implementation otherwise.
#define FAILING(type, name, parameters, arguments) \
  type name parameters {                           \
    static __typeof__(&name) real;                 \
    if (fails(fd)) return -1;                      \
    if (!real) real = REAL(name);                  \
    return real arguments;                         \
  }

FAILING(ssize_t, write, (int fd, const void *buffer, size_t size), (fd, buffer, size))
FAILING(ssize_t, pwrite, (int fd, const void *buffer, size_t size, off_t at), (fd, buffer, size, at))
FAILING(ssize_t, pwrite64, (int fd, const void *buffer, size_t size, off64_t at), (fd, buffer, size, at))
FAILING(int, fsync, (int fd), (fd))
FAILING(int, fdatasync, (int fd), (fd))
FAILING(int, ftruncate, (int fd, off_t size), (fd, size))
FAILING(int, ftruncate64, (int fd, off64_t size), (fd, size))
FAILING(int, fallocate, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size))
FAILING(int, fallocate64, (int fd, int mode, off64_t at, off64_t size), (fd, mode, at, size))
