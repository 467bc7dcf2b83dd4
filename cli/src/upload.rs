//! Sending a module to a server, unless it has it.

use bytes::Bytes;
use orch_manifests::Digest;
use orch_server::Failure;

use crate::client::Client;
use crate::printer::Printer;

/// Uploads a module; its digest, under which the server knows it then.
///
/// # Errors
/// As the server's.
pub(crate) async fn module(client: &Client, module: &Bytes, printer: Printer) -> Result<Digest, Failure> {
    let digest = Digest::of(module);
    if client.has_blob(&digest).await? {
        return Ok(digest);
    }
    let total = module.len() as u64;
    let progress = |sent: u64| printer.status(&line(sent, total));
    let done = client.put_blob(&digest, module, &progress).await;
    printer.erase_status();
    done.map(|()| digest)
}

fn line(sent: u64, total: u64) -> String {
    let percent = (sent * 100).checked_div(total).unwrap_or(100);
    format!("uploading the module: {percent} % of {}", size(total))
}

/// A size as people say it.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_share_of_the_whole() {
        assert_eq!(line(0, 0), "uploading the module: 100 % of 0 bytes");
        assert_eq!(line(1 << 20, 4 << 20), "uploading the module: 25 % of 4 MiB");
        assert_eq!(size(2048), "2 KiB");
    }
}
