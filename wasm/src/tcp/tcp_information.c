/* The state of a connection at this moment, for TCP_INFO of Linux. */
#include "abi.h"
#include "abi/handles.h"
#include "abi/module.h"
#include "tcp/tcp_flight.h"

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
      .round_trip = connection->round_trip / 8,
      .round_trip_variation = connection->variation / 4,
      .congestion_window = pcb->cwnd,
      .slow_start_threshold = pcb->ssthresh,
      .retransmissions = pcb->nrtx,
      .unacknowledged = pcb->snd_nxt - pcb->lastack,
      .unsent = pcb->snd_lbb - pcb->snd_nxt,
      .send_window = pcb->snd_wnd,
      .receive_window = pcb->rcv_wnd,
      .features = timestamps | (pcb->flags & TF_SACK ? 2 : 0) | wide,
      .recovery = connection->flight != NULL ? connection->flight->state : SENDER_OPEN,
      .undone = connection->undone,
      .total_retransmissions = connection->resent,
      .needless_retransmissions = connection->needless,
      .scales = wide ? (uint32_t)pcb->snd_scale | (uint32_t)pcb->rcv_scale << 4 : 0,
  };
  return 0;
}
