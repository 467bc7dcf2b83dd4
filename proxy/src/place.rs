//! Where in a request a secret may stand, and putting it there.

mod header;
mod query;

use http::request::Parts;
use http::{HeaderMap, HeaderName, Uri};

use crate::{AuthorizeError, Placeholder};

pub use header::swap_in_header;
pub use query::swap_in_query;

/// Where in a request a secret may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this header.
    Header(HeaderName),
    /// As the value of the one parameter of the query that has exactly this name, once percent-decoded.
    Query(String),
}

impl Place {
    /// Puts `value` where `placeholder` stands in this place: [`swap_in_header`] or [`swap_in_query`].
    ///
    /// # Errors
    /// [`AuthorizeError::NotThere`], [`AuthorizeError::Repeated`], or [`AuthorizeError::BadValue`]; the parts are then
    /// unchanged.
    pub fn swap(
        &self,
        parts: &mut Parts,
        placeholder: &Placeholder,
        value: &[u8],
    ) -> Result<(), AuthorizeError> {
        match self {
            Self::Header(header) => swap_in_header(parts, header, placeholder, value),
            Self::Query(name) => swap_in_query(parts, name, placeholder, value),
        }
    }

    /// Whether `placeholder` stands in this place, in a shape that is swapped.
    pub(crate) fn holds(&self, headers: &HeaderMap, uri: &Uri, placeholder: &Placeholder) -> bool {
        match self {
            Self::Header(name) => {
                headers.get_all(name).iter().any(|line| header::holds(line.as_bytes(), placeholder))
            }
            Self::Query(name) => query::holds(uri.query().unwrap_or_default(), name, placeholder),
        }
    }
}
