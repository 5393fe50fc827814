//! A bad network between Tollgate and its Redis: passes bytes on until told to delay, keep, swallow, cut, half-close or
//! corrupt them.

use std::{io, net::SocketAddr, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Each piece waits so long, either way.
    Delay(Duration),
    /// Requests come through at once, and each piece of an answer waits so long.
    DelayAnswers(Duration),
    /// Requests come through at once, and answers wait until the weather is another.
    KeepAnswers,
    /// Connections stay, and nothing comes through.
    Swallow,
    /// Connections are closed, and new ones too as soon as they are made.
    Cut,
    /// Requests come through; the answers' side is shut.
    HalfClose,
    /// One byte of each answer is another.
    Corrupt,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(redis: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (weather, seen) = watch::channel(Weather::Fair);
        let redis = redis.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, redis.clone(), seen.clone()));
            }
        });
        Proxy { address, weather, task }
    }

    pub(crate) fn turns(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(client: TcpStream, redis: String, weather: watch::Receiver<Weather>) {
    let Ok(server) = TcpStream::connect(redis).await else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let asking = pump(from_client, to_server, weather.clone(), Way::Asking);
    let answering = pump(from_server, to_client, weather.clone(), Way::Answering);
    // The end of one way doesn't end the other: that is what half-closed means.
    let both = async { tokio::join!(asking, answering) };
    tokio::select! {
        _ = both => {}
        () = turned(weather, Weather::Cut) => {}
    }
}

/// Waits until the weather is that.
async fn turned(mut weather: watch::Receiver<Weather>, to: Weather) {
    // Where the proxy is gone, so is the test.
    drop(weather.wait_for(|now| *now == to).await);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Asking,
    Answering,
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    weather: watch::Receiver<Weather>,
    way: Way,
) -> io::Result<()> {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut piece) => read?,
            () = turned(weather.clone(), Weather::HalfClose), if way == Way::Answering => return to.shutdown().await,
        };
        if read == 0 {
            return to.shutdown().await;
        }
        let now = *weather.borrow();
        match now {
            Weather::Swallow => continue,
            Weather::Delay(time) => tokio::time::sleep(time).await,
            Weather::DelayAnswers(time) if way == Way::Answering => tokio::time::sleep(time).await,
            Weather::KeepAnswers if way == Way::Answering => {
                drop(weather.clone().wait_for(|now| *now != Weather::KeepAnswers).await);
            }
            Weather::Corrupt if way == Way::Answering => piece[rng.random_range(0..read)] ^= 0x55,
            Weather::DelayAnswers(_) | Weather::KeepAnswers => {}
            Weather::Fair | Weather::Cut | Weather::HalfClose | Weather::Corrupt => {}
        }
        to.write_all(&piece[..read]).await?;
    }
}
