/* Joins a TAP device and a socket in the format of QEMU's `-netdev stream`: 32 bits of length, most significant byte
 * first, and the frame. It is what a virtual machine is to a virtual switch, without a processor that is emulated.
 *
 *   frame_relay TAP_FD SOCKET_FD     carry frames until the socket ends
 *
 * There is a thread for each direction, and writing to the socket blocks: while the socket is full, frames wait in the
 * device's queue, and the other direction goes on.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  LONGEST = 4096 + 65536, /* bytes of a frame, as in QEMU */
  BUFFER = 512 * 1024,    /* bytes read from the device before they are written to the socket */
};

static int tap, stream;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void write_all(const unsigned char *data, size_t size) {
  while (size > 0) {
    ssize_t sent = write(stream, data, size);
    if (sent < 0) {
      if (errno == EPIPE || errno == ECONNRESET)
        exit(0);
      fail("write to the socket");
    }
    data += sent;
    size -= (size_t)sent;
  }
}

/* Reading from the device does not block: what was read leaves as soon as there are no more frames. */
static void *from_device(void *unused) {
  static unsigned char buffer[BUFFER];
  struct pollfd ready = {.fd = tap, .events = POLLIN};
  (void)unused;
  for (;;) {
    size_t filled = 0;
    while (filled + sizeof(uint32_t) + LONGEST <= sizeof buffer) {
      unsigned char *start = buffer + filled;
      ssize_t size = read(tap, start + sizeof(uint32_t), LONGEST);
      if (size < 0) {
        if (errno == EAGAIN)
          break;
        fail("read from the device");
      }
      uint32_t length = htonl((uint32_t)size);
      memcpy(start, &length, sizeof length);
      filled += sizeof length + (size_t)size;
    }
    write_all(buffer, filled);
    if (filled == 0 && poll(&ready, 1, -1) < 0)
      fail("poll");
  }
}

static void from_stream(void) {
  static unsigned char buffer[BUFFER];
  size_t first = 0, last = 0;
  for (;;) {
    ssize_t size = read(stream, buffer + last, sizeof buffer - last);
    if (size == 0 || (size < 0 && errno == ECONNRESET))
      return;
    if (size < 0)
      fail("read from the socket");
    last += (size_t)size;
    for (;;) {
      uint32_t length;
      if (last - first < sizeof length)
        break;
      memcpy(&length, buffer + first, sizeof length);
      length = ntohl(length);
      if (length > LONGEST) {
        fputs("the stream carries no frames\n", stderr);
        exit(1);
      }
      if (last - first - sizeof length < length)
        break;
      /* EINVAL: the device does not take the frame, as a network card would not. */
      if (write(tap, buffer + first + sizeof length, length) < 0 && errno != EINVAL)
        fail("write to the device");
      first += sizeof length + length;
    }
    memmove(buffer, buffer + first, last - first);
    last -= first;
    first = 0;
  }
}

int main(int argc, char **argv) {
  pthread_t thread;
  if (argc != 3) {
    fputs("frame_relay TAP_FD SOCKET_FD\n", stderr);
    return 2;
  }
  tap = atoi(argv[1]);
  stream = atoi(argv[2]);
  if (pthread_create(&thread, NULL, from_device, NULL) != 0)
    fail("pthread_create");
  from_stream();
  return 0;
}
