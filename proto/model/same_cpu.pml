/* same_cpu.pml: the same-cpu placement. It says where the two sides run, not what they do: they park and wake as
 * the futex switch does. One CPU allows fewer interleavings than two, never others, so futex.pml's proof holds. */
#include "futex.pml"
