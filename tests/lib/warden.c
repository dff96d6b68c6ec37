/* A warden for the jail's tests: hands the descriptors it was born with to whoever connects to its
 * control socket, and then does what it is told, one byte at a time. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST = 4, LAST = 10 };

static void hand_over(int to, const char *id)
{
    int fds[LAST - FIRST + 1];
    for (int i = FIRST; i <= LAST; i++)
        fds[i - FIRST] = i;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof fds)];
    } control = {0};
    struct iovec iov = {(void *)id, strlen(id)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(c), fds, sizeof fds);
    sendmsg(to, &msg, 0);
}

/* What of the host a warden can see: names in its root, and whether it may write anywhere. */
static void look_around(int to)
{
    char text[4096] = "";
    int extra = 0;
    for (int i = LAST + 1; i < 1024; i++)
        extra += i != to && fcntl(i, F_GETFD) >= 0;
    DIR *dir = opendir("/");
    for (struct dirent *d; dir && (d = readdir(dir));) {
        strncat(text, d->d_name, 200);
        strncat(text, " ", 2);
    }
    int fd = open("/new", O_CREAT | O_WRONLY, 0600);
    strncat(text, fd < 0 && errno == EROFS ? "read-only" : "writable", 20);
    strncat(text, extra ? " descriptors leaked" : "", 30);
    strncat(text, "\n", 2);
    (void)!write(to, text, strlen(text));
}

int main(int argc, char **argv)
{
    int client = accept(3, NULL, NULL);
    if (client < 0 || argc < 2)
        return 9;
    fcntl(client, F_SETFD, FD_CLOEXEC);
    hand_over(client, argv[1]);
    char byte;
    while (read(client, &byte, 1) == 1) {
        if (byte == 'q')
            return 7;
        if (byte == 'l')
            look_around(client);
        if (byte == 'f') {
            int fd = openat(9, "made-by-warden", O_CREAT | O_WRONLY, 0640);
            (void)!write(client, fd < 0 ? "no\n" : "ok\n", 3);
        }
        if (byte == 'n')
            for (int i = 0; i < 20000; i++)
                fprintf(stderr, "noise %d ------------------------------------------------------\n",
                        i);
    }
    for (;;)
        pause();
}
