//! Agent manifests, host patterns and the provider catalog.
