//! Connections, from hostile peers and good ones.
