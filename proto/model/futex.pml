/* futex.pml: the futex switch (flipcall/core/futex.c): FUTEX_WAKE, then FUTEX_WAIT. It works with any peer. */
#include "word.pml"
#include "queue.pml"

/* The swap of the switch interface (issue 3): no operation for it here, so wake, then park. */
inline SWAP(me) {
    WAKE(me);
    PARK(me)
}

#include "flip.pml"
