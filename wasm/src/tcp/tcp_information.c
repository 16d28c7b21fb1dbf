/* The state of a connection at this moment, for TCP_INFO of Linux. */
#include "abi.h"
#include "abi/handles.h"
#include "abi/module.h"
#include "tcp/connection.h"

int32_t abi_tcp_information(int32_t handle) {
  const struct connection *connection = tw_handle_object(handle, HANDLE_CONNECTION);
  if (connection == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  const struct tcp_pcb *pcb = connection->pcb;
  if (pcb == NULL) {
    return ABI_ERROR_NOT_CONNECTED;
  }
  uint32_t timestamps = pcb->flags & TF_TIMESTAMP ? 1 : 0, wide = pcb->flags & TF_WND_SCALE ? 4 : 0;
  tw_scratch.information = (struct abi_information){
      .state = pcb->state,
      .segment_size = tcp_mss(pcb),
      .rto = (uint32_t)pcb->rto * TCP_SLOW_INTERVAL,
      .round_trip = (uint32_t)pcb->sa * TCP_SLOW_INTERVAL / 8, /* lwIP counts in eighths of a tick */
      .round_trip_variation = (uint32_t)pcb->sv * TCP_SLOW_INTERVAL / 4,
      .congestion_window = pcb->cwnd,
      .slow_start_threshold = pcb->ssthresh,
      .retransmissions = pcb->nrtx,
      .unacknowledged = pcb->snd_nxt - pcb->lastack,
      .unsent = pcb->snd_lbb - pcb->snd_nxt,
      .send_window = pcb->snd_wnd,
      .receive_window = pcb->rcv_wnd,
      .features = timestamps | (pcb->flags & TF_SACK ? 2 : 0) | wide,
      .scales = wide ? (uint32_t)pcb->snd_scale | (uint32_t)pcb->rcv_scale << 4 : 0,
  };
  return 0;
}
