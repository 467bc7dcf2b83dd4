//! Both ends of measurements of an LLM gateway.
//!
//! - `llm_load upstream [CHUNKS MILLISECONDS]` plays a provider on loopback that speaks OpenAI's chat completions and
//!   Anthropic's messages, and answers at once; a stream has so many chunks, one each so many milliseconds (20, at
//!   once). It prints its address and ends with its standard input.
//! - `llm_load relay ADDRESS` listens on loopback and carries bytes to and from ADDRESS without looking at them: what any
//!   gateway takes for having two sockets.
//! - `llm_load run URL SECONDS CONNECTIONS [HEADER:VALUE]…` posts one small question after another to URL on each of so
//!   many kept connections.
//! - `llm_load paced URL RATE SECONDS CONNECTIONS [HEADER:VALUE]…` posts so many a second, whether answers are late or
//!   not; what is asked late because the answer before was late counts from when it was due.
//! - `llm_load first URL RATE SECONDS CONNECTIONS [HEADER:VALUE]…` does so with streams; times are those of the first
//!   piece of text.
//! - `llm_load streams URL COUNT [HEADER:VALUE]…` has so many streams open at once, and reads them all to their ends.
//!
//! What asks prints a line of JSON with what came of it. `LLM_MODEL` names another model than `gpt-4o-mini`. The dialect is
//! that of the path. It speaks just enough HTTP/1.1, so that what is measured is the gateway and not this.

mod ask;
mod connection;
mod relay;
mod upstream;

use std::io::{Error, Result, Write as _};
use std::time::Duration;

use ask::{Asked, Load};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = match arguments.as_slice() {
        ["upstream"] => return runtime.block_on(upstream::serve(20, Duration::ZERO)),
        ["upstream", chunks, gap] => {
            return runtime.block_on(upstream::serve(number(chunks)?, Duration::from_millis(number(gap)?)));
        }
        ["relay", upstream] => return runtime.block_on(relay::serve(number(upstream)?)),
        ["run", url, seconds, connections, headers @ ..] => {
            let load = Load { rate: None, seconds: number(seconds)?, connections: number(connections)? };
            runtime.block_on(ask::whole(&Asked::new(url, headers, false)?, &load))?
        }
        ["paced", url, rate, seconds, connections, headers @ ..] => {
            let load = Load {
                rate: Some(number(rate)?),
                seconds: number(seconds)?,
                connections: number(connections)?,
            };
            runtime.block_on(ask::whole(&Asked::new(url, headers, false)?, &load))?
        }
        ["first", url, rate, seconds, connections, headers @ ..] => {
            let load = Load {
                rate: Some(number(rate)?),
                seconds: number(seconds)?,
                connections: number(connections)?,
            };
            runtime.block_on(ask::whole(&Asked::new(url, headers, true)?, &load))?
        }
        ["streams", url, count, headers @ ..] => {
            runtime.block_on(ask::streams(&Asked::new(url, headers, true)?, number(count)?))?
        }
        _ => {
            return Err(Error::other(
                "llm_load upstream | relay | run | paced | first | streams …; see its source",
            ));
        }
    };
    writeln!(std::io::stdout(), "{said}")
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::other(format!("{text} is not what is wanted there")))
}
