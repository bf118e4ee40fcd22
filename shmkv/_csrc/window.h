/* window.h: adjacent base pages for an extent. Owns the choice of a window and emptying it. */
#ifndef KV_WINDOW_H
#define KV_WINDOW_H

#include "victim.h"

/* Empty `len` adjacent base pages; the run becomes the operation's gift. */
kv_status window_step(struct episode *ep, uint32_t len);

#endif
