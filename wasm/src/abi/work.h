/* The work of one poll is bounded in what it handles, and not by a clock, so that every run of a simulation stops at the
   same place: a poll takes some 2 ms then. What is left is for the next one, which ABI_MORE_NOW asks for. */
#ifndef WORK_H
#define WORK_H

enum {
  WORK_FRAMES = 8192,  /* received; one that TCP, UDP or ICMP takes in counts as WORK_INPUT */
  WORK_INPUT = 4,
  WORK_SEGMENTS = 2048, /* sent by one flush, and by the ticks of TCP; a connection that has nothing to send counts, too */
  WORK_VISITS = 16,    /* connections that a tick visits and segments that are freed count a sixteenth */
  WORK_EVENTS = 1024,  /* before no more frames are taken in: the embedder needs longer for an event than the module */
  WORK_REPORTS = 16,   /* connections that end, or have room again; one of small segments counts as four */
};

#endif
