/* The state of a connection at this moment, for TCP_INFO of Linux. */
#include "abi.h"
#include "abi/handles.h"
#include "abi/module.h"
#include "tcp/connection.h"

int32_t abi_tcp_information(int32_t handle) {
  const struct connection *connection = tw_handle_object(handle, HANDLE_CONNECTION);
  uint32_t *words = (uint32_t *)(void *)tw_scratch;
  if (connection == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  const struct tcp_pcb *pcb = connection->pcb;
  if (pcb == NULL) {
    return ABI_ERROR_NOT_CONNECTED;
  }
  uint32_t timestamps = pcb->flags & TF_TIMESTAMP ? 1 : 0, wide = pcb->flags & TF_WND_SCALE ? 4 : 0;
  words[ABI_INFORMATION_STATE] = pcb->state;
  words[ABI_INFORMATION_SEGMENT_SIZE] = tcp_mss(pcb);
  words[ABI_INFORMATION_RTO] = (uint32_t)pcb->rto * TCP_SLOW_INTERVAL;
  words[ABI_INFORMATION_ROUND_TRIP] = (uint32_t)pcb->sa * TCP_SLOW_INTERVAL / 8; /* lwIP counts in eighths of a tick */
  words[ABI_INFORMATION_ROUND_TRIP_VARIATION] = (uint32_t)pcb->sv * TCP_SLOW_INTERVAL / 4;
  words[ABI_INFORMATION_CONGESTION_WINDOW] = pcb->cwnd;
  words[ABI_INFORMATION_SLOW_START_THRESHOLD] = pcb->ssthresh;
  words[ABI_INFORMATION_RETRANSMISSIONS] = pcb->nrtx;
  words[ABI_INFORMATION_UNACKNOWLEDGED] = pcb->snd_nxt - pcb->lastack;
  words[ABI_INFORMATION_UNSENT] = pcb->snd_lbb - pcb->snd_nxt;
  words[ABI_INFORMATION_SEND_WINDOW] = pcb->snd_wnd;
  words[ABI_INFORMATION_RECEIVE_WINDOW] = pcb->rcv_wnd;
  words[ABI_INFORMATION_FEATURES] = timestamps | (pcb->flags & TF_SACK ? 2 : 0) | wide;
  words[ABI_INFORMATION_SCALES] = wide ? (uint32_t)pcb->snd_scale | (uint32_t)pcb->rcv_scale << 4 : 0;
  return 0;
}
