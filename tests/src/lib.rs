//! Harness of the end-to-end suite: fake upstreams, guests, paired timings.
