//! How the pieces of a client's stream are written: straight to its bytes. A piece is a few words and the names of a dozen
//! fields, so that a tree of values for each would cost more than everything else done with it.

use serde::Serialize;

use crate::frames::event_stream;

/// An object with these fields, which borrows their values: what a tree of values would be, without one.
macro_rules! object {
    ($($field:ident: $value:expr),* $(,)?) => {{
        #[allow(non_camel_case_types, non_snake_case, reason = "fields, and their types, go by their names in JSON")]
        struct Object<$($field),*> {
            $($field: $field),*
        }
        #[allow(non_camel_case_types, reason = "each field's type goes by its name")]
        impl<$($field: serde::Serialize),*> serde::Serialize for Object<$($field),*> {
            fn serialize<S_: serde::Serializer>(&self, serializer: S_) -> Result<S_::Ok, S_::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                $(
                    // A keyword is a raw identifier.
                    let name = stringify!($field);
                    map.serialize_entry(name.strip_prefix("r#").unwrap_or(name), &self.$field)?;
                )*
                map.end()
            }
        }
        Object { $($field: $value),* }
    }};
}
pub(super) use object;

/// Appends JSON.
pub(super) fn json(value: &impl Serialize, out: &mut Vec<u8>) {
    #[expect(
        clippy::expect_used,
        reason = "bytes in memory take everything, and no value here has keys but strings"
    )]
    serde_json::to_writer(out, value).expect("plain values are written to memory");
}

/// Appends an event of server-sent events; without a name when that is empty.
pub(super) fn sse(name: &str, value: &impl Serialize, out: &mut Vec<u8>) {
    if !name.is_empty() {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    json(value, out);
    out.extend_from_slice(b"\n\n");
}

/// Appends a line of JSON.
pub(super) fn line(value: &impl Serialize, out: &mut Vec<u8>) {
    json(value, out);
    out.push(b'\n');
}

/// Appends an event of AWS's event stream.
pub(super) fn message(name: &str, value: &impl Serialize, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(256);
    json(value, &mut payload);
    event_stream::write_event(name, &payload, out);
}
