//! The egress proxy: policy, address guard, DNS, TLS, credential injection.
