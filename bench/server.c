/* A server for the time of one measurement.
 *
 * The listening socket is made here and handed over by socket activation,
 * which nbdkit and qemu-nbd both know: a client may connect at once, and
 * its first answer comes as soon as the server is able to give it.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "bench.h"

/* The first descriptor of socket activation. */
#define LISTEN_FD 3

/* What exit_server has to do when the program ends early. */
static struct server *running;

static void
exit_server (void)
{
  if (running == NULL)
    return;
  kill (running->pid, SIGTERM);
  unlink (running->socket);
  rmdir (running->dir);
}

static void
make_socket (struct server *srv, int *fd)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  const char *tmp = getenv ("TMPDIR");
  int n;

  n = snprintf (srv->dir, sizeof srv->dir, "%s/benchXXXXXX",
                tmp && strlen (tmp) < 40 ? tmp : "/tmp");
  if (n < 0 || (size_t) n >= sizeof srv->dir || mkdtemp (srv->dir) == NULL)
    fail ("%s: no temporary directory: %s", srv->dir, strerror (errno));
  snprintf (srv->socket, sizeof srv->socket, "%s/nbd", srv->dir);
  snprintf (srv->uri, sizeof srv->uri, "nbd+unix:///?socket=%s",
            srv->socket);
  strcpy (addr.sun_path, srv->socket);
  *fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (*fd == -1 ||
      bind (*fd, (struct sockaddr *) &addr, sizeof addr) == -1 ||
      listen (*fd, SOMAXCONN) == -1)
    fail ("%s: %s", srv->socket, strerror (errno));
}

/* In the child: give it the socket and become the server. */
static void
exec_server (int fd, char **argv)
{
  char pid[32];

  prctl (PR_SET_PDEATHSIG, SIGTERM);
  if (fd == LISTEN_FD)
    fcntl (fd, F_SETFD, 0);
  else if (dup2 (fd, LISTEN_FD) == -1)
    _exit (126);
  snprintf (pid, sizeof pid, "%ld", (long) getpid ());
  setenv ("LISTEN_PID", pid, 1);
  setenv ("LISTEN_FDS", "1", 1);
  execvp (argv[0], argv);
  fprintf (stderr, "%s: %s\n", argv[0], strerror (errno));
  _exit (127);
}

void
server_start (struct server *srv, char **argv)
{
  int fd;

  *srv = (struct server) { .pid = -1 };
  make_socket (srv, &fd);
  fflush (NULL);
  srv->pid = fork ();
  if (srv->pid == -1)
    fail ("fork: %s", strerror (errno));
  if (srv->pid == 0)
    exec_server (fd, argv);
  close (fd);
  if (running == NULL && atexit (exit_server) != 0)
    fail ("atexit does not work");
  running = srv;
}

void
server_connect (struct server *srv, unsigned nr_connections, bool map)
{
  unsigned i;

  for (i = 0; i < nr_connections; i++) {
    struct nbd_handle *nbd = nbd_create ();

    if (nbd == NULL ||
        (map &&
         nbd_add_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1) ||
        nbd_connect_unix (nbd, srv->socket) == -1)
      fail ("connection %u: %s", i + 1, nbd_get_error ());
    srv->nbd[srv->nr_connections++] = nbd;
  }
}

/* Wait for a child, which must exit with status 0. */
static void
wait_good (pid_t pid, const char *what)
{
  int status;

  while (waitpid (pid, &status, 0) == -1)
    if (errno != EINTR)
      fail ("waitpid: %s", strerror (errno));
  if (WIFSIGNALED (status))
    fail ("%s was ended by signal %d", what, WTERMSIG (status));
  if (WEXITSTATUS (status) != 0)
    fail ("%s exited with status %d", what, WEXITSTATUS (status));
}

void
server_stop (struct server *srv)
{
  unsigned i;

  for (i = 0; i < srv->nr_connections; i++) {
    if (nbd_shutdown (srv->nbd[i], 0) == -1)
      fail ("disconnecting: %s", nbd_get_error ());
    nbd_close (srv->nbd[i]);
  }
  kill (srv->pid, SIGTERM);
  running = NULL;
  wait_good (srv->pid, "the server");
  unlink (srv->socket);
  rmdir (srv->dir);
}

void
client_run (char **argv)
{
  pid_t pid;

  fflush (NULL);
  pid = fork ();
  if (pid == -1)
    fail ("fork: %s", strerror (errno));
  if (pid == 0) {
    execvp (argv[0], argv);
    fprintf (stderr, "%s: %s\n", argv[0], strerror (errno));
    _exit (127);
  }
  wait_good (pid, argv[0]);
}
