//! The least that anything between two sockets can take: bytes go on as they come, and nobody looks at them.

use std::io::{Read as _, Result, Write as _};
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Until standard input ends.
pub(crate) async fn serve(upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let over = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let serving = async {
        let mut connections = JoinSet::new();
        loop {
            let (client, _) = listener.accept().await?;
            // A caller that goes away ends its connection and nothing else.
            connections.spawn(async move { carry(client, upstream).await.ok() });
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        served = serving => served,
        _ = over => Ok(()),
    }
}

async fn carry(mut client: TcpStream, upstream: SocketAddr) -> Result<()> {
    let mut upstream = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}
