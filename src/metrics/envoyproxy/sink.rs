//! Sends what was counted to StatsD servers, now and then. A server that is away costs nothing but the attempt, is
//! logged once, and gets what it missed when it is back.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UdpSocket, lookup_host},
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{statsd::Dialect, totals::StatsdTotals};

/// Connecting, or handing over what was counted, takes no longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What passes every network whole.
const DATAGRAM_BYTES_MAX: usize = 1_432;

/// One StatsD server, and the connection to it.
pub struct Sink {
    name: &'static str,
    address: (String, u16),
    protocol: SinkProtocol,
    dialect: Dialect,
    connection: Option<SinkConnection>,
    /// What it knows.
    sent: Arc<StatsdTotals>,
    is_away: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkProtocol {
    Tcp,
    Udp,
}

enum SinkConnection {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// Tells all sinks every `interval` what `totals` has come to, and once more at the end.
pub async fn flush(
    mut sinks: Vec<Sink>,
    interval: Duration,
    totals: impl Fn() -> StatsdTotals,
    stop: CancellationToken,
) {
    let mut ticks = time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_last = tokio::select! {
            _ = ticks.tick() => false,
            () = stop.cancelled() => true,
        };
        let totals = Arc::new(totals());
        futures_util::future::join_all(sinks.iter_mut().map(|sink| sink.send_totals(&totals))).await;
        if is_last {
            return;
        }
    }
}

impl Sink {
    pub fn new(name: &'static str, address: (String, u16), protocol: SinkProtocol, dialect: Dialect) -> Sink {
        Sink { name, address, protocol, dialect, connection: None, sent: Arc::default(), is_away: false }
    }

    async fn send_totals(&mut self, totals: &Arc<StatsdTotals>) {
        let lines = self.dialect.lines(totals, &self.sent);
        if lines.is_empty() {
            return;
        }
        let told = time::timeout(PATIENCE, self.send(&lines)).await;
        let (host, port) = (&self.address.0, self.address.1);
        match told.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => {
                self.sent = Arc::clone(totals);
                if std::mem::take(&mut self.is_away) {
                    info!(sink = self.name, host, port, "metrics are sent again");
                }
            }
            Err(error) => {
                self.connection = None;
                if !std::mem::replace(&mut self.is_away, true) {
                    warn!(sink = self.name, host, port, %error, "can't send metrics: retrying");
                }
            }
        }
    }

    async fn send(&mut self, lines: &[String]) -> io::Result<()> {
        if self.connection.as_ref().is_none_or(SinkConnection::is_closed) {
            self.connection = None;
            self.connection = Some(SinkConnection::open(&self.address, self.protocol).await?);
        }
        match &mut self.connection {
            Some(SinkConnection::Tcp(stream)) => stream.write_all(lines.concat().as_bytes()).await,
            Some(SinkConnection::Udp(socket)) => {
                for datagram in datagrams(lines) {
                    socket.send(datagram.as_bytes()).await?;
                }
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl SinkConnection {
    async fn open((host, port): &(String, u16), protocol: SinkProtocol) -> io::Result<SinkConnection> {
        if protocol == SinkProtocol::Tcp {
            return TcpStream::connect((host.as_str(), *port)).await.map(SinkConnection::Tcp);
        }
        let to = lookup_host((host.as_str(), *port)).await?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let any = if to.is_ipv4() { [0; 4].into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(to).await?;
        Ok(SinkConnection::Udp(socket))
    }

    /// The server closed it: what is written would be lost without a word.
    fn is_closed(&self) -> bool {
        match self {
            SinkConnection::Tcp(stream) => matches!(stream.try_read(&mut [0; 64]), Ok(0)),
            SinkConnection::Udp(_) => false,
        }
    }
}

/// Lines put together as far as they fit.
fn datagrams(lines: &[String]) -> Vec<String> {
    let mut datagrams: Vec<String> = Vec::new();
    for line in lines {
        match datagrams.last_mut() {
            Some(last) if last.len() + line.len() <= DATAGRAM_BYTES_MAX => last.push_str(line),
            _ => datagrams.push(line.clone()),
        }
    }
    datagrams
}
