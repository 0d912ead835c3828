// Connections over TLS, by OpenSSL.
#ifdef WITH_TLS
#define _GNU_SOURCE
#include "conn.h"
#include "program.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

enum { MAX_FD = 65536 };
static SSL_CTX *context;
static int serves;
static struct {
  SSL *ssl;
  int greedy;
} conns[MAX_FD];

static void die_of_tls(const char *what) {
  char text[256];
  ERR_error_string_n(ERR_get_error(), text, sizeof text);
  die("%s: %s", what, text);
}

static void make_context(const SSL_METHOD *method) {
  context = SSL_CTX_new(method);
  if (context == NULL) die_of_tls("TLS");
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

void tls_client(void) { make_context(TLS_client_method()); }

void tls_server(const char *cert, const char *key) {
  make_context(TLS_server_method());
  serves = 1;
  if (SSL_CTX_use_certificate_chain_file(context, cert) != 1 ||
      SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
    die_of_tls(cert);
}

int conn_is_secure(void) { return context != NULL; }

void conn_open(int fd) {
  if (context == NULL) return;
  if (fd >= MAX_FD) die("too many connections for TLS: %d", fd);
  SSL *ssl = conns[fd].ssl = SSL_new(context);
  conns[fd].greedy = 0;
  if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) die_of_tls("TLS");
  if ((serves ? SSL_accept(ssl) : SSL_connect(ssl)) != 1) die_of_tls("TLS handshake");
}

void conn_set_greedy(int fd) { conns[fd].greedy = 1; }

// What recv and send return: a count, 0 at the end, or -1 and errno.
static ssize_t result_of(SSL *ssl, int n) {
  if (n > 0) return n;
  switch (SSL_get_error(ssl, n)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_SYSCALL: return errno == 0 ? 0 : -1;
    default: errno = EPROTO; return -1;
  }
}

ssize_t conn_get(int fd, void *at, size_t size) {
  SSL *ssl = conns[fd].ssl;
  if (ssl == NULL) return recv(fd, at, size, 0);
  ssize_t total = 0;
  do {
    ERR_clear_error();
    errno = 0;
    ssize_t n = result_of(ssl, SSL_read(ssl, (char *)at + total, (int)(size - (size_t)total)));
    if (n <= 0) return total > 0 ? total : n;
    total += n;
  } while (conns[fd].greedy && size - (size_t)total >= CONN_RECORD);
  return total;
}

ssize_t conn_put(int fd, const void *at, size_t size) {
  SSL *ssl = conns[fd].ssl;
  if (ssl == NULL) return send(fd, at, size, MSG_NOSIGNAL);
  ERR_clear_error();
  errno = 0;
  return result_of(ssl, SSL_write(ssl, at, (int)size));
}
#endif
