//! A relay before an API server that can hold back what a client sends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use kube::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::cluster::TestCluster;

/// The relay: a client whose requests are held has, for the server, fallen silent in the middle of
/// what it was doing, while it still hears everything. When it is let go, the past arrives.
pub struct Gate {
    address: SocketAddr,
    shut: watch::Sender<bool>,
    held: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Gate {
    /// Listens, and relays to `server`.
    async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shut, watched) = watch::channel(false);
        let held = Arc::<Mutex<Vec<u8>>>::default();
        let log = held.clone();
        let task = tokio::spawn(async move {
            let mut relays = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                relays.spawn(copy(from_client, to_server, watched.clone(), log.clone()));
                relays.spawn(async move {
                    let (mut from, mut to) = (from_server, to_client);
                    drop(tokio::io::copy(&mut from, &mut to).await);
                });
            }
        });
        Self {
            address,
            shut,
            held,
            task,
        }
    }

    /// Listens, and relays to the API server of a cluster.
    pub async fn before_cluster(cluster: &TestCluster) -> Self {
        let server = cluster.config.cluster_url.authority().unwrap();
        Self::before(server.as_str().parse().unwrap()).await
    }

    /// A client that speaks through the gate.
    pub fn client(&self, cluster: &TestCluster) -> Client {
        let mut config = cluster.config.clone();
        config.cluster_url = format!("http://{}", self.address).parse().unwrap();
        Client::try_from(config).unwrap()
    }

    /// From now on nothing that the client sends gets through.
    pub fn hold(&self) {
        self.shut.send_replace(true);
    }

    /// Everything that was held goes on its way.
    pub fn release(&self) {
        self.shut.send_replace(false);
    }

    /// Whether a request with this text in it has been held.
    pub fn holds(&self, text: &str) -> bool {
        let held = self.held.lock().unwrap();
        String::from_utf8_lossy(&held).contains(text)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut shut: watch::Receiver<bool>,
    held: Arc<Mutex<Vec<u8>>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if *shut.borrow() {
            held.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
        if shut.wait_for(|shut| !shut).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
