//! One connection to one server that speaks Redis' protocol, and its pushed messages: in RESP3 over the same socket; in
//! RESP2, if the server refuses RESP3, over a second one. It doesn't know which commands are sent over it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError,
    RedisResult, Value,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::settings::{Address, RedisTls};
use super::socket;

/// The server, and how to connect to it.
#[derive(Clone)]
pub(super) struct ConnectOptions {
    pub address: Address,
    pub tls: Option<RedisTls>,
    /// Credentials and number of the database. The protocol is set here.
    pub info: RedisConnectionInfo,
}

/// A connection, which is closed with its last clone.
#[derive(Clone)]
pub(super) struct Connection {
    asked: MultiplexedConnection,
    shared: Arc<SharedConnection>,
}

/// What all clones share.
struct SharedConnection {
    options: ConnectOptions,
    protocol: ProtocolVersion,
    pushed: mpsc::UnboundedSender<PushInfo>,
    /// The task that reads and writes, also while no command is running.
    driver: JoinHandle<()>,
    /// In RESP2, the task that is subscribed, over a connection of its own.
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for SharedConnection {
    fn drop(&mut self) {
        self.driver.abort();
        self.listener.lock().iter().for_each(JoinHandle::abort);
    }
}

impl Connection {
    /// Connects and greets: in RESP3, or in RESP2 if that is refused. Messages of the channels, and the end of the
    /// connection, are sent to `pushed`, even while no command is running.
    pub(super) async fn open(
        options: ConnectOptions,
        pushed: mpsc::UnboundedSender<PushInfo>,
    ) -> RedisResult<Connection> {
        match Connection::speaking(ProtocolVersion::RESP3, options.clone(), pushed.clone()).await {
            Err(error) if knows_no_resp3(&error) => Connection::speaking(ProtocolVersion::RESP2, options, pushed).await,
            opened => opened,
        }
    }

    async fn speaking(
        protocol: ProtocolVersion,
        mut options: ConnectOptions,
        pushed: mpsc::UnboundedSender<PushInfo>,
    ) -> RedisResult<Connection> {
        options.info = options.info.set_protocol(protocol);
        let socket = socket::open(&options.address, options.tls.as_ref()).await?;
        // The lane keeps the deadlines, because a request's time includes its wait for a batch; a second timer would
        // cost.
        let mut config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1024)
            .set_write_backpressure_boundary(64 * 1024);
        if protocol == ProtocolVersion::RESP3 {
            config = config.set_push_sender(pushed.clone());
        }
        let (asked, driven) = MultiplexedConnection::new_with_config(&options.info, socket, config).await?;
        let told = pushed.clone();
        let driver = tokio::spawn(async move {
            driven.await;
            report_ended(&told);
        });
        let kept = SharedConnection { options, protocol, pushed, driver, listener: Mutex::default() };
        Ok(Connection { asked, shared: Arc::new(kept) })
    }

    /// Subscribes to `channel`, or returns why it can't be subscribed.
    pub(super) async fn listen(&mut self, channel: &str) -> RedisResult<()> {
        let SharedConnection { options, protocol, pushed, listener, .. } = &*self.shared;
        if *protocol == ProtocolVersion::RESP3 {
            return self.asked.subscribe(channel).await;
        }
        let socket = socket::open(&options.address, options.tls.as_ref()).await?;
        let mut listening = PubSub::new(&options.info, socket).await?;
        listening.subscribe(channel).await?;
        let pushed = pushed.clone();
        let task = tokio::spawn(async move {
            let mut messages = listening.into_on_message();
            while let Some(message) = messages.next().await {
                let channel = Value::BulkString(message.get_channel_name().into());
                let data = vec![channel, Value::BulkString(message.get_payload_bytes().into())];
                let _ = pushed.send(PushInfo { kind: PushKind::Message, data });
            }
            // The subscription has ended, which ends the whole connection.
            report_ended(&pushed);
        });
        if let Some(before) = listener.lock().replace(task) {
            before.abort();
        }
        Ok(())
    }
}

impl Connection {
    /// As [`Connection::listen`], to a shard channel, which RESP2 can't. No other command may follow: the server confirms by
    /// a push and never answers.
    pub(super) async fn listen_to_shard(
        &mut self,
        channel: &str,
        pushes: &mut mpsc::UnboundedReceiver<PushInfo>,
    ) -> RedisResult<()> {
        let mut subscribe = redis::cmd("SSUBSCRIBE");
        let answer = self.asked.send_packed_command(subscribe.arg(channel));
        let confirmed = async {
            while let Some(push) = pushes.recv().await {
                if push.kind == PushKind::SSubscribe {
                    return;
                }
            }
        };
        tokio::select! {
            answer = answer => answer?.extract_error().map(drop),
            () = confirmed => Ok(()),
        }
    }
}

/// A receiver that has gone needs no message.
fn report_ended(pushed: &mpsc::UnboundedSender<PushInfo>) {
    let _ = pushed.send(PushInfo { kind: PushKind::Disconnection, data: Vec::new() });
}

/// Whether the server refused the greeting in RESP3: an old Redis, a renamed HELLO, or a proxy without RESP3.
fn knows_no_resp3(error: &RedisError) -> bool {
    let is_unknown = || error.detail().is_some_and(|detail| detail.to_ascii_lowercase().contains("unknown command"));
    error.kind() == ErrorKind::RESP3NotSupported || error.code() == Some("NOPROTO") || is_unknown()
}

impl Deref for Connection {
    type Target = MultiplexedConnection;

    fn deref(&self) -> &MultiplexedConnection {
        &self.asked
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut MultiplexedConnection {
        &mut self.asked
    }
}
