"""What is measured, and the peers it is measured against: ``python -m bench sendrecv|call|gofer``.

The rules every figure here follows:

- The contenders of one comparison run in one process tree, in alternation (A B C, A B C, ...), so that a
  machine that drifts drifts for all of them.
- A row's figures are medians over the runs; the smallest and largest median latency stand beside them.
- Latency percentiles come from a clock reading before and after each call. Nothing is subtracted: the cost
  of one reading is in the machine line (``clock_overhead_ns``). Means and CPU times come from a loop
  without readings.
- CPU time is that of *both* processes, and what is lost is shown like what is won.
"""
