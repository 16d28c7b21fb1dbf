/* Handles that are stale, forged, exhausted or of another kind are refused. */
#include "support.h"
#include "abi/handles.h"

static int object, other;

static void handles_of_another_kind_are_refused(void) {
  int32_t handle = tw_handle_open(HANDLE_LISTENER, &object);
  CHECK(handle > 0);
  CHECK(tw_handle_object(handle, HANDLE_LISTENER) == &object);
  CHECK(tw_handle_object(handle, HANDLE_CONNECTION) == NULL);
  CHECK(tw_handle_object(handle, HANDLE_INTERFACE) == NULL);
  CHECK(tw_handle_object(handle, HANDLE_FREE) == NULL);
  tw_handle_close(handle);
  CHECK(tw_handle_object(handle, HANDLE_FREE) == NULL);
}

static void stale_handles_are_refused(void) {
  int32_t first = tw_handle_open(HANDLE_LISTENER, &object);
  tw_handle_close(first);
  CHECK(tw_handle_object(first, HANDLE_LISTENER) == NULL);
  CHECK_EQUAL(tw_handle_count(), 0);
  tw_handle_close(first);
  CHECK_EQUAL(tw_handle_count(), 0);
  /* Free slots are reused oldest first: as many opens as there are slots return the same one again. */
  int32_t again = 0;
  for (int i = 0; i < 65536 && (again & 0xffff) != (first & 0xffff); i++) {
    again = tw_handle_open(HANDLE_LISTENER, &other);
    tw_handle_close(again);
  }
  CHECK_EQUAL(again & 0xffff, first & 0xffff);
  CHECK(again != first);
}

static void forged_handles_are_refused(void) {
  int32_t real = tw_handle_open(HANDLE_CONNECTION, &object);
  int32_t forgeries[] = {0, -1, INT32_MIN, INT32_MAX, real ^ 1, real ^ 0x10000, real | INT32_MIN, 0xffff, 0x10000};
  for (unsigned i = 0; i < sizeof forgeries / sizeof *forgeries; i++) {
    CHECK(forgeries[i] == real || tw_handle_object(forgeries[i], HANDLE_CONNECTION) == NULL);
    tw_handle_close(forgeries[i] == real ? 0 : forgeries[i]);
  }
  for (int i = 0; i < 100000; i++) {
    int32_t forgery = (int32_t)random_next();
    CHECK(forgery == real || tw_handle_object(forgery, HANDLE_CONNECTION) == NULL);
  }
  CHECK(tw_handle_object(real, HANDLE_CONNECTION) == &object);
  tw_handle_close(real);
}

static void generations_wrap_and_stay_positive(void) {
  int32_t handle = 0, index = -1;
  uint32_t turns = 0;
  for (uint32_t i = 0; turns < 70000; i++) { /* twice through the 32,767 generations of one slot */
    handle = tw_handle_open(HANDLE_LISTENER, &object);
    CHECK(handle > 0);
    CHECK(handle >> 16 != 0);
    index = index < 0 ? handle & 0xffff : index;
    turns += (handle & 0xffff) == index;
    CHECK(tw_handle_object(handle, HANDLE_LISTENER) == &object);
    tw_handle_close(handle);
    CHECK(tw_handle_object(handle, HANDLE_LISTENER) == NULL);
  }
}

static void exhaustion_is_a_temporary_error(void) {
  static int32_t handles[65536];
  static uint8_t seen[65536];
  host_reserve_handles(65536);
  for (int i = 0; i < 65536; i++) {
    handles[i] = tw_handle_open(HANDLE_LISTENER, &handles[i]);
    CHECK(handles[i] > 0);
    CHECK(!seen[handles[i] & 0xffff]);
    seen[handles[i] & 0xffff] = 1;
  }
  CHECK_EQUAL(tw_handle_open(HANDLE_LISTENER, &object), ABI_ERROR_NO_MEMORY);
  CHECK_EQUAL(interface_open(ABI_KIND_TUN, 1500), ABI_ERROR_NO_MEMORY);
  CHECK_EQUAL(tcp_listener(ABI_FAMILY_ANY, NULL, 80, 1), ABI_ERROR_NO_MEMORY);
  for (int i = 0; i < 65536; i++) {
    CHECK(tw_handle_object(handles[i], HANDLE_LISTENER) == &handles[i]);
  }
  tw_handle_close(handles[12345]);
  int32_t again = tw_handle_open(HANDLE_CONNECTION, &object);
  CHECK_EQUAL(again & 0xffff, handles[12345] & 0xffff);
  CHECK(again != handles[12345]);
  tw_handle_close(again);
  for (int i = 0; i < 65536; i++) {
    tw_handle_close(handles[i]);
  }
  CHECK_EQUAL(tw_handle_count(), 0);
}

static void every_call_refuses_handles_of_other_kinds(void) {
  int32_t interface = interface_open(ABI_KIND_TUN, 1500);
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 1);
  int32_t bad[] = {0, -5, INT32_MAX, interface, listener};
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    CHECK_EQUAL(abi_tcp_send(0, bad[i], 0), ABI_ERROR_BAD_HANDLE);
    CHECK_EQUAL(abi_tcp_received(0, bad[i], 0), ABI_ERROR_BAD_HANDLE);
    CHECK_EQUAL(abi_tcp_shutdown(bad[i]), ABI_ERROR_BAD_HANDLE);
    CHECK_EQUAL(abi_tcp_abort(bad[i]), ABI_ERROR_BAD_HANDLE);
    CHECK_EQUAL(abi_tcp_accepted(bad[i]), ABI_ERROR_BAD_HANDLE);
    CHECK_EQUAL(abi_tcp_option(bad[i], ABI_OPTION_NODELAY, 1), ABI_ERROR_BAD_HANDLE);
    if (bad[i] != listener) {
      CHECK_EQUAL(abi_tcp_close(bad[i]), ABI_ERROR_BAD_HANDLE);
      CHECK_EQUAL(abi_tcp_local_port(bad[i]), ABI_ERROR_BAD_HANDLE);
    }
    if (bad[i] != interface) {
      CHECK_EQUAL(abi_interface_remove(bad[i]), ABI_ERROR_BAD_HANDLE);
      CHECK_EQUAL(abi_interface_block(bad[i]), ABI_ERROR_BAD_HANDLE);
      CHECK_EQUAL(abi_interface_address(bad[i], ABI_FAMILY_IPV4, 24), ABI_ERROR_BAD_HANDLE);
      CHECK_EQUAL(abi_interface_checksums(bad[i], 0), ABI_ERROR_BAD_HANDLE);
    }
  }
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_tcp_close(listener), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
  CHECK_EQUAL(abi_interface_remove(interface), ABI_ERROR_BAD_HANDLE);
}

int main(void) {
  host_start();
  RUN(handles_of_another_kind_are_refused);
  RUN(stale_handles_are_refused);
  RUN(forged_handles_are_refused);
  RUN(generations_wrap_and_stay_positive);
  RUN(every_call_refuses_handles_of_other_kinds);
  RUN(exhaustion_is_a_temporary_error);
  return 0;
}
