/* Programs that try a supervisor: each ends with 0 if all was as it is for real root, or says what was not. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAY(...) do { printf(__VA_ARGS__); printf(" (errno %d)\n", errno); exit(1); } while (0)

static int owned_by(const char *path, unsigned uid, unsigned gid) {
    struct stat s;
    return lstat(path, &s) == 0 && s.st_uid == uid && s.st_gid == gid;
}

static void make(const char *path) {
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    if (fd < 0) SAY("cannot make %s", path);
    close(fd);
}

/* A path that changes while its call is looked at; every outcome is one of the two files. */
static char shared[64] = "/w/one";
static volatile int stop;
static void *flip(void *unused) {
    while (!stop) { memcpy(shared, "/w/two", 7); memcpy(shared, "/w/one", 7); memcpy(shared, "/proc/self/root/x", 18); }
    return unused;
}
static int paths(void) {
    make("/w/one"); make("/w/two"); make("/w/free");
    pthread_t thread;
    pthread_create(&thread, NULL, flip, NULL);
    for (int i = 0; i < 20000; i++) {
        int result = chown(shared, 7, 8);
        if (result != 0 && errno != ENOENT) SAY("chown of a changing path");
        struct stat s;
        stat(shared, &s);
    }
    stop = 1;
    pthread_join(thread, NULL);
    if (!owned_by("/w/free", 0, 0)) SAY("a file that nobody named has changed its owner");
    return 0;
}

/* A name that is now a file, now a link to another. */
static int links(void) {
    make("/w/target"); make("/w/plain");
    pid_t child = fork();
    if (child == 0) {
        for (;;) { unlink("/w/swap"); symlink("target", "/w/swap"); unlink("/w/swap"); link("/w/plain", "/w/swap"); }
    }
    for (int i = 0; i < 20000; i++) lchown("/w/swap", 9, 9);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    if (!owned_by("/w/target", 0, 0)) SAY("lchown followed a link");
    return 0;
}

static int many(void) {
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 500; i++) {
            pid_t child = fork();
            if (child == 0) {
                char path[32];
                sprintf(path, "/w/m%d", i);
                make(path);
                _exit(chown(path, 100 + i, 5) || !owned_by(path, 100 + i, 5));
            }
            if (child < 0) SAY("fork");
        }
        for (int i = 0; i < 500; i++) {
            int status;
            if (wait(&status) < 0 || status != 0) SAY("a process among many failed: %x", status);
        }
    }
    return 0;
}

/* No descriptor is left: the call fails as it would have, and what comes after works. */
static int descriptors(void) {
    struct rlimit limit = {32, 32};
    setrlimit(RLIMIT_NOFILE, &limit);
    if (setgid(50) || setuid(50)) SAY("become another user");
    int last = -1, fd;
    while ((fd = open("/w50/x", O_CREAT | O_RDWR, 0644)) >= 0) last = fd;
    if (errno != EMFILE) SAY("open beyond the limit");
    if (open("/w50/new", O_CREAT | O_RDWR, 0644) >= 0 || errno != EMFILE) SAY("create beyond the limit");
    close(last);
    if (open("/w50/new", O_CREAT | O_RDWR, 0644) < 0) SAY("create within the limit");
    return owned_by("/w50/new", 50, 50) ? 0 : 1;
}

static int filters(void) {
    struct sock_filter allow[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
    struct sock_fprog program = {1, allow};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) SAY("a filter of one's own");
    make("/w/filtered");
    if (chown("/w/filtered", 3, 4) || !owned_by("/w/filtered", 3, 4)) SAY("chown below a filter of one's own");
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program) != -1 || errno != EBUSY)
        SAY("a second listener");
    return 0;
}

static int traced(void) {
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        make("/w/traced");
        _exit(chown("/w/traced", 6, 7) || !owned_by("/w/traced", 6, 7));
    }
    int status;
    waitpid(child, &status, 0);
    while (!WIFEXITED(status) && !WIFSIGNALED(status)) {
        ptrace(PTRACE_SYSCALL, child, 0, 0);
        if (waitpid(child, &status, 0) < 0) SAY("wait for the traced one");
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void nothing(int signal) { (void)signal; }
static int signals(void) {
    struct sigaction action = {.sa_handler = nothing, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 300}, {0, 300}};
    setitimer(ITIMER_REAL, &often, NULL);
    if (setegid(60) || seteuid(60)) SAY("become another user");
    int made = 0;
    for (int i = 0; i < 5000; i++) {
        char path[32];
        sprintf(path, "/w60/s%d", i);
        int fd;
        while ((fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600)) < 0 && errno == EINTR) {}
        if (fd < 0) SAY("create %s under signals", path);
        close(fd);
        made += owned_by(path, 60, 60);
    }
    return made == 5000 ? 0 : 1;
}

static void *same(void *unused) {
    for (int i = 0; i < 2000; i++) {
        if (getuid() != 77 || geteuid() != 77) return "a thread has another identity";
        make("/w77/t");
    }
    return unused ? NULL : NULL;
}
static int threads(void) {
    pthread_t all[8];
    if (setgid(77) || setuid(77)) SAY("become another user");
    for (int i = 0; i < 8; i++) pthread_create(&all[i], NULL, same, NULL);
    for (int i = 0; i < 8; i++) {
        void *fault;
        pthread_join(all[i], &fault);
        if (fault) SAY("%s", (char *)fault);
    }
    return 0;
}

/* Memory of init, and of a process that is no child. */
static int memory(void) {
    int fd = open("/proc/1/mem", O_RDWR);
    char byte;
    if (fd >= 0 && pread(fd, &byte, 1, 0) == 1) SAY("page 0 of init");
    for (long address = 0; address < 64; address++)
        if (syscall(SYS_chown, address * 4096 + 1, 1, 1) == 0 || (errno != EFAULT && errno != ENOENT)) SAY("chown of no path");
    if (chown((char *)-1, 1, 1) == 0 || errno != EFAULT) SAY("chown of the last byte");
    if (syscall(SYS_newfstatat, AT_FDCWD, "/w", (void *)8, 0) == 0 || errno != EFAULT) SAY("stat to nowhere");
    if (syscall(SYS_getgroups, 4, (void *)8) != 0 && errno != EFAULT) SAY("getgroups to nowhere");
    char long_path[5000];
    memset(long_path, 'a', sizeof long_path);
    long_path[0] = '/'; long_path[4999] = 0;
    if (chown(long_path, 1, 1) == 0 || errno != ENAMETOOLONG) SAY("chown of a long path");
    return 0;
}

/* Calls of i386, from a program of x86-64. */
#ifdef __x86_64__
static long low(long number, long a, long b, long c, long d) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
}
static int narrow(void) {
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    strcpy(page, "/w/narrow");
    make(page);
    long path = (long)page, out = path + 1024;
    if (low(212, path, 70000, 80000, 0)) SAY("chown32");
    if (low(195, path, out, 0, 0)) SAY("stat64");
    if (*(unsigned *)(out + 24) != 70000 || *(unsigned *)(out + 28) != 80000) SAY("stat64 shows %u", *(unsigned *)(out + 24));
    if (low(182, path, 5, 0xffff, 0)) SAY("chown of 16 bits");
    if (low(383, AT_FDCWD, path, 0, 0x7ff) != -EFAULT) SAY("statx to nowhere");
    if (!owned_by(page, 5, 80000)) SAY("16-bit -1 changed the group");
    if (low(208, 90, 90, 90, 0)) SAY("setresuid32");
    if (low(199, 0, 0, 0, 0) != 90 || getuid() != 90) SAY("getuid32");
    if (low(209, out, out + 4, out + 8, 0) || *(unsigned *)(out + 8) != 90) SAY("getresuid32");
    return low(213, 0, 0, 0, 0) == -EPERM ? 0 : 1;
}
#else
static int narrow(void) { return 0; }
#endif

static int ring(void) {
    if (syscall(425, 1, NULL) != -1 || errno != ENOSYS) SAY("io_uring");
    struct rlimit limit;
    if (getrlimit(RLIMIT_LOCKS, &limit) || limit.rlim_cur != RLIM_INFINITY) SAY("the limit of locks");
    limit.rlim_cur = 3;
    if (setrlimit(RLIMIT_LOCKS, &limit) || getuid() != 0) SAY("the limit of locks is an identity");
    if (setuid(12) || getrlimit(RLIMIT_LOCKS, &limit) || limit.rlim_cur != RLIM_INFINITY) SAY("the limit of locks of a user");
    limit.rlim_cur = RLIM_INFINITY;
    if (setrlimit(RLIMIT_LOCKS, &limit) || getuid() != 12) SAY("a limit makes root");
    return 0;
}

int main(int argc, char **argv) {
    struct { const char *name; int (*run)(void); } all[] = {
        {"paths", paths}, {"links", links}, {"many", many}, {"descriptors", descriptors}, {"filters", filters}, {"traced", traced},
        {"signals", signals}, {"threads", threads}, {"memory", memory}, {"narrow", narrow}, {"ring", ring}};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (argc == 2 && !strcmp(argv[1], all[i].name)) return all[i].run();
    return 2;
}
