/* What programs ask of the kernel through their libc, whichever it is: prints "check: NAME ok" or "check: NAME FAILED WHERE" a check. Compiled with musl, without
   a dynamic linker, and for i386. Leaves its files in /calls. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

extern char **environ;
static const char *self;
#define CHECK(name, condition) do { errno = 0; if (condition) printf("check: %s ok\n", name); else printf("check: %s FAILED line %d errno %d\n", name, __LINE__, errno); fflush(stdout); } while (0)

static int make(const char *path) { int fd = open(path, O_CREAT | O_RDWR, 0644); return fd < 0 ? -1 : close(fd); }
static int shows(const char *path, unsigned uid, unsigned gid, unsigned mode) {
    struct stat s;
    return lstat(path, &s) == 0 && s.st_uid == uid && s.st_gid == gid && (s.st_mode & 07777) == mode;
}
/* Ends with what `body` gives in a child: 0 is right. */
static int child(int (*body)(void)) {
    pid_t pid = fork();
    int status;
    if (pid == 0) _exit(body());
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int drops(void) {
    gid_t groups[] = { 7, 8 }, seen[4];
    if (setgroups(2, groups) || getgroups(4, seen) != 2 || seen[0] != 7 || seen[1] != 8) return 1;
    uid_t r, e, s;
    if (setresgid(50, 51, 52) || setresuid(60, 61, 62) || getresuid(&r, &e, &s) || r != 60 || e != 61 || s != 62) return 2;
    if (getuid() != 60 || geteuid() != 61 || getgid() != 50 || getegid() != 51) return 3;
    if (setuid(0) == 0 || errno != EPERM) return 4;
    if (make("/calls/open/theirs") || !shows("/calls/open/theirs", 61, 51, 0644)) return 5;
    if (chown("/calls/open/theirs", 0, 0) == 0 || errno != EPERM) return 6;
    if (mkdir("/calls/open/directory", 0755) || symlink("x", "/calls/open/link") || mkfifo("/calls/open/pipe", 0644)) return 7;
    if (seteuid(62) || geteuid() != 62 || setreuid(62, 62) || getuid() != 62) return 8;
    return 0;
}
static volatile int changed;
static void *thread_id(void *out) { while (!changed) usleep(1000); *(unsigned *)out = getuid(); return NULL; }
/* A libc changes the identity of all threads, each by its own call. */
static int threads(void) {
    unsigned seen[4] = { 9, 9, 9, 9 };
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) pthread_create(&thread[i], NULL, thread_id, &seen[i]);
    if (setgid(71) || setuid(70)) return 1;
    changed = 1;
    for (int i = 0; i < 4; i++) { pthread_join(thread[i], NULL); if (seen[i] != 70) return 2; }
    return getuid() != 70 || getgid() != 71;
}
static int set_id(void) {
    if (setgid(81) || setuid(80)) return 1;
    char *arguments[] = { "/calls/raised", "identity", "80 90 81 91", NULL };
    pid_t pid; int status;
    if (posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ)) return 2;
    return waitpid(pid, &status, 0) != pid || status != 0;
}
/* An exec that fails after its file was found leaves the identity as it was. */
static void *refused_exec(void *result) {
    size_t size = 512 * 1024;
    char *large = malloc(size); memset(large, 'a', size); large[size - 1] = 0;
    char *arguments[] = { "/calls/raised", large, NULL };
    execv(arguments[0], arguments);
    *(int *)result = errno;
    return NULL;
}
static int is_dropped(const char *file) {
    uid_t r, e, s;
    if (getresuid(&r, &e, &s) || r != 80 || e != 80 || s != 80 || getegid() != 81) return 3;
    return setuid(0) == 0 || make(file) || !shows(file, 80, 81, 0644);
}
static int failed_exec(void) {
    int result = 0;
    if (setgid(81) || setuid(80)) return 1;
    refused_exec(&result);
    return result != E2BIG ? 2 : is_dropped("/calls/open/after");
}
static int failed_exec_in_a_thread(void) {
    int result = 0;
    pthread_t thread;
    if (setgid(81) || setuid(80)) return 1;
    pthread_create(&thread, NULL, refused_exec, &result);
    pthread_join(thread, NULL);
    return result != E2BIG ? 2 : is_dropped("/calls/open/joined");
}
static int rooted(void) {
    if (chroot("/calls/inner") || chdir("/")) return 1;
    return make("/x") || chown("/x", 41, 42) || !shows("/x", 41, 42, 0644) || chown("../../x", 43, 42) || !shows("/x", 43, 42, 0644);
}
static int sticky(void) {
    if (setgid(81) || setuid(80)) return 1;
    return unlink("/calls/sticky/roots") == 0 || errno != EPERM || rename("/calls/sticky/roots", "/calls/sticky/mine") == 0;
}
static unsigned walked, foreign;
static int visit(const char *path, const struct stat *s, int kind, struct FTW *at) {
    (void)path; (void)kind; (void)at; walked++; foreign += s->st_uid == 9;
    return 0;
}

int main(int count, char **words) {
    self = words[0];
    if (count == 3 && strcmp(words[1], "identity") == 0) {
        char text[64];
        sprintf(text, "%u %u %u %u", getuid(), geteuid(), getgid(), getegid());
        return strcmp(text, words[2]) != 0;
    }
    umask(022);
    struct stat s;
    CHECK("place", mkdir("/calls", 0755) == 0 && chdir("/calls") == 0 && mkdir("open", 01777) == 0 && chmod("open", 01777) == 0);
    CHECK("root", getuid() == 0 && geteuid() == 0 && getgid() == 0 && getgroups(0, NULL) >= 0);
    CHECK("chown", make("a") == 0 && chown("a", 3, 4) == 0 && shows("a", 3, 4, 0644));
    CHECK("stat", stat("a", &s) == 0 && s.st_uid == 3 && s.st_gid == 4);
    int fd = open("a", O_RDWR);
    CHECK("fchown", fchown(fd, 5, -1) == 0 && fstat(fd, &s) == 0 && s.st_uid == 5 && s.st_gid == 4);
    CHECK("fchmod", fchmod(fd, 06755) == 0 && shows("a", 5, 4, 06755));
    CHECK("chown-clears", chown("a", 6, 6) == 0 && shows("a", 6, 6, 0755));
    CHECK("lchown", symlink("a", "l") == 0 && lchown("l", 7, 8) == 0 && shows("l", 7, 8, 0777) && shows("a", 6, 6, 0755));
    CHECK("fchownat", fchownat(AT_FDCWD, "l", 9, 9, AT_SYMLINK_NOFOLLOW) == 0 && shows("l", 9, 9, 0777));
    int path = open("a", O_PATH);
    CHECK("empty-path", fchownat(path, "", 11, 12, AT_EMPTY_PATH) == 0 && fstatat(path, "", &s, AT_EMPTY_PATH) == 0 && s.st_uid == 11);
    CHECK("missing", chown("none", 1, 1) == -1 && errno == ENOENT && chown("a/b", 1, 1) == -1 && errno == ENOTDIR && chown("", 1, 1) == -1 && errno == ENOENT);
    CHECK("bad-pointer", chown((char *)8, 1, 1) == -1 && errno == EFAULT && stat((char *)8, &s) == -1 && errno == EFAULT);
    CHECK("rename", rename("a", "b") == 0 && shows("b", 11, 12, 0755) && link("b", "c") == 0 && shows("c", 11, 12, 0755));
    CHECK("mknod", mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0 && lstat("null", &s) == 0 && S_ISCHR(s.st_mode) && s.st_rdev == makedev(1, 3));
    CHECK("mknodat", mknodat(AT_FDCWD, "disk", S_IFBLK | 0660, makedev(259, 300)) == 0 && lstat("disk", &s) == 0 && S_ISBLK(s.st_mode) && s.st_rdev == makedev(259, 300));
    CHECK("mkfifo", mkfifo("pipe", 0640) == 0 && lstat("pipe", &s) == 0 && S_ISFIFO(s.st_mode));
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "socket" };
    int bound = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK("bind", bind(bound, (void *)&address, sizeof address) == 0 && chown("socket", 13, 13) == 0 && shows("socket", 13, 13, 0755));
    int devices = 0;
    DIR *directory = opendir(".");
    for (struct dirent *entry; (entry = readdir(directory));) devices += entry->d_type == DT_CHR || entry->d_type == DT_BLK;
    closedir(directory);
    CHECK("readdir", devices == 2);
    char value[64];
    unsigned char capability[20] = { 1, 0, 0, 2, 0, 4 };
    CHECK("trusted", setxattr("b", "trusted.a", "one", 3, 0) == 0 && getxattr("b", "trusted.a", value, sizeof value) == 3 && memcmp(value, "one", 3) == 0);
    CHECK("capability", setxattr("b", "security.capability", capability, 20, 0) == 0 && getxattr("b", "security.capability", value, sizeof value) == 20 && memcmp(value, capability, 20) == 0);
    ssize_t listed = listxattr("b", value, sizeof value);
    CHECK("listxattr", listed > 0 && memmem(value, listed, "trusted.a", 10) && memmem(value, listed, "security.capability", 20));
    CHECK("removexattr", removexattr("b", "trusted.a") == 0 && getxattr("b", "trusted.a", value, sizeof value) == -1 && errno == ENODATA);
    CHECK("access", access("b", R_OK | W_OK) == 0 && faccessat(AT_FDCWD, "b", X_OK, AT_EACCESS) == 0);
    CHECK("set-group-id", mkdir("shared", 0775) == 0 && chown("shared", 0, 60) == 0 && chmod("shared", 02775) == 0 && make("shared/f") == 0 && shows("shared/f", 0, 60, 0644)
        && mkdir("shared/d", 0755) == 0 && shows("shared/d", 0, 60, 02755));
    CHECK("sticky", mkdir("sticky", 01777) == 0 && chmod("sticky", 01777) == 0 && make("sticky/roots") == 0 && child(sticky) == 0);
    CHECK("drops", child(drops) == 0);
    CHECK("threads", child(threads) == 0);
    CHECK("link-to-self", link(self, "raised") == 0 && chown("raised", 90, 91) == 0 && chmod("raised", 06755) == 0 && shows("raised", 90, 91, 06755));
    CHECK("set-id", child(set_id) == 0);
    CHECK("failed-exec", child(failed_exec) == 0);
    CHECK("failed-exec-in-a-thread", child(failed_exec_in_a_thread) == 0);
    CHECK("link-refused", linkat(AT_FDCWD, "b", AT_FDCWD, "none", 0x4) == -1 && errno == EINVAL && link("b", "c/x") == -1 && errno == ENOTDIR);
    CHECK("chroot", mkdir("inner", 0755) == 0 && child(rooted) == 0 && shows("inner/x", 43, 42, 0644));
    for (int i = 0; i < 200; i++) { char name[16]; sprintf(name, "shared/%d", i); make(name); if (i % 2) chown(name, 9, 9); }
    CHECK("nftw", nftw("shared", visit, 16, FTW_PHYS) == 0 && walked == 203 && foreign == 100);
    int sums = 0;
    for (int i = 0; i < 200; i++) { char name[16]; sprintf(name, "shared/%d", i); sums += unlink(name); }
    CHECK("unlink", sums == 0);
    return 0;
}
