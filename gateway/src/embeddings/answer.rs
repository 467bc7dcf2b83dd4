//! What an answer has to be, so that it is one to this request.

use orch_manifests::Dialect;

use super::{EmbedRequest, EmbedResponse, Vector, invalid, wire};
use crate::dialect::ResponseError;
use crate::plan::Candidate;

/// Bytes of an answer at most, whatever was asked for.
const MOST_BYTES: usize = 96 << 20;

/// Bytes of an answer beside its vectors: its inputs among them, which some providers repeat.
const BESIDE: usize = 64 << 10;

/// Bytes in which a number is spelled at most.
const DIGITS: usize = 32;

/// Bytes in which providers spell a number, the space around it included.
const SPELLED: usize = 24;

/// Bytes of an answer beside each vector: it may be one of several that have but this vector in them.
const AROUND: usize = 256;

/// Numbers of a vector, where nothing is known of the model.
const ANY_DIMENSIONS: u64 = 8192;

/// Whether the vectors that are asked for, of which the client or the catalog says how long they are, are more than an
/// answer may hold.
pub(super) fn is_too_much(request: &EmbedRequest, candidate: &Candidate) -> bool {
    let known = candidate.known().and_then(|model| model.embedding).map(|embedding| embedding.dimensions);
    let numbers = request.dimensions.or(known).unwrap_or(0).saturating_mul(request.inputs.len() as u64);
    numbers > (MOST_BYTES / SPELLED) as u64
}

/// What is expected of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    inputs: usize,
    /// Numbers of a vector, where the client said so.
    dimensions: Option<u64>,
    most_bytes: usize,
}

impl Expected {
    /// What is expected of this candidate's answer.
    pub(crate) fn of(request: &EmbedRequest, candidate: &Candidate) -> Expected {
        let inputs = request.inputs.len();
        let known = candidate.known().and_then(|model| model.embedding);
        let most =
            request.dimensions.or(known.map(|embedding| embedding.dimensions)).unwrap_or(ANY_DIMENSIONS);
        let numbers = usize::try_from(most).unwrap_or(MOST_BYTES).saturating_mul(inputs);
        // Titan's answers have each number twice.
        let twice = if candidate.provider.dialect == Dialect::BedrockConverse { 2 } else { 1 };
        let encodings = request.encodings.len().max(1).saturating_mul(twice);
        let beside =
            request.repeated_bytes().saturating_add(BESIDE).saturating_add(inputs.saturating_mul(AROUND));
        let most_bytes = numbers.saturating_mul(DIGITS * encodings).saturating_add(beside).min(MOST_BYTES);
        Expected { inputs, dimensions: request.dimensions, most_bytes }
    }

    /// What is expected of the answer to some of the inputs, which has so many bytes at most.
    pub(crate) fn part(&self, inputs: usize, most_bytes: usize) -> Expected {
        Expected { inputs, most_bytes, ..*self }
    }

    /// Inputs, of which each gets a vector.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes of the answer at most.
    pub(crate) fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// It is none to this request: it cannot be read, or there is not one vector for each input, all of one length.
    pub(crate) fn read(&self, spoken: Dialect, body: &[u8]) -> Result<EmbedResponse, ResponseError> {
        let wire = wire(spoken).ok_or_else(|| invalid("its dialect has no embeddings"))?;
        let response = wire.parse_response(body)?;
        let count = response.vectors.len();
        if count != self.inputs {
            return Err(ResponseError(format!("there are {count} vectors for {} inputs", self.inputs)));
        }
        let mut lengths = response.vectors.iter().filter_map(|vector| match vector {
            Vector::Numbers(numbers) => Some(numbers.len() as u64),
            Vector::Unread => None,
        });
        let Some(first) = lengths.next() else { return Ok(response) };
        if lengths.any(|length| length != first) {
            return Err(invalid("its vectors differ in length"));
        }
        match self.dimensions.filter(|wanted| *wanted != first) {
            Some(wanted) => {
                Err(ResponseError(format!("its vectors are of {first} numbers, and {wanted} were asked for")))
            }
            None => Ok(response),
        }
    }
}
