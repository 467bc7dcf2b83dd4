//! Requests, from their token to their answer.
