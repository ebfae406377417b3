//! The agent's mirror before the real daemon: registries that are up, away or private.

#![allow(
    clippy::disallowed_methods,
    reason = "a test that waits asks the clock itself"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forelay::agent::mirror::{Book, Mirror, Options};
use forelay::plan::policy::Pattern;
use forelay::registry::Keychain;
use forelay::runtime::containerd::Containerd as Runtime;
use forelay::telemetry::clock::SystemClock;
use forelay::telemetry::metric::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::gate::{Gate, Scheme, USER};
use crate::image::{Form, Image};
use crate::node::{Node, Site};
use crate::pod::Cri;
use crate::program::busybox;
use crate::registry::{Upstream, client, sha256};
use crate::relay::Relay;

/// As configured by default.
const FRESH: Duration = Duration::from_mins(1);

/// A node with an agent's runtime and its mirror.
struct Mirrored {
    node: Node,
    site: Site,
    runtime: Arc<Runtime>,
    address: SocketAddr,
    end: CancellationToken,
    serving: JoinHandle<()>,
}

impl Mirrored {
    /// `origin` is where [`crate::node::NAME`] is; registries of this machine are where their names say.
    async fn start(origin: SocketAddr, site: impl FnOnce(&mut Site)) -> Self {
        let node = Node::start(format!("http://{origin}")).await;
        let mut changed = node.site();
        changed.book = Some(Book::new(FRESH, Arc::new(SystemClock)));
        site(&mut changed);
        let runtime = Arc::new(node.runtime().await);
        let (address, end, serving) = serve(&node, &changed, &runtime).await;
        Self {
            node,
            site: changed,
            runtime,
            address,
            end,
            serving,
        }
    }

    async fn deliver(&self, images: &[(&str, &Image)]) {
        let runtime = self.runtime.clone();
        let status = self.site.deliver_by(runtime, images).await;
        assert_eq!(status.present, images.len() as u32, "{status:?}");
    }

    async fn cri(&self) -> Cri {
        Cri::new(self.node.daemon.channel().await)
    }

    fn file(&self) -> PathBuf {
        self.node.daemon.certificates().join("_default/hosts.toml")
    }

    /// Ends the mirror as a signal would.
    async fn stop(&mut self) {
        self.end.cancel();
        (&mut self.serving).await.unwrap();
    }

    /// What the mirror says to who comes by itself.
    async fn asked(&self, registry: &str, path: &str) -> (u16, String) {
        let url = format!("http://{}/v2/{path}?ns={registry}", self.address);
        let answer = client().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

async fn serve(
    node: &Node,
    site: &Site,
    runtime: &Arc<Runtime>,
) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        book: site.book.clone().unwrap(),
        runtime: runtime.clone(),
        source: site.registry(site.keychain.clone()),
        origins: site.registry(Keychain::default()),
        clock: Arc::new(SystemClock),
    };
    let mirror = Mirror::new(options, &mut Metrics::new("agent"));
    let listening = mirror.bind().await.unwrap();
    let address = listening.address().unwrap();
    let end = CancellationToken::new();
    let folders = vec![node.daemon.certificates()];
    let file = folders[0].join("_default/hosts.toml");
    let is_free = !file.exists();
    let serving = tokio::spawn(listening.serve(folders, end.clone()));
    let begun = Instant::now();
    while is_free && !file.exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "no hosts.toml");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (address, end, serving)
}

fn of(origin: impl std::fmt::Display, name: &str) -> String {
    format!("{origin}/{name}")
}

#[tokio::test]
async fn a_pod_that_always_pulls_starts_with_the_registry_switched_off() {
    let (mut origin, image) = (Upstream::start(), busybox(Form::Gzip, "web"));
    let pause = busybox(Form::Gzip, "pause");
    image.push(&origin, "team/web", "1").await;
    pause.push(&origin, "pause", "1").await;
    let mirrored = Mirrored::start(origin.address, |_| {}).await;
    let name = of(origin.address, "team/web:1");
    mirrored
        .deliver(&[(&name, &image), ("pause:1", &pause)])
        .await;
    origin.kill();
    let mut cri = mirrored.cri().await;
    let id = sha256(&image.config).to_string();
    let pinned = format!(
        "{}@{}",
        of(origin.address, "team/web"),
        sha256(&image.index)
    );
    for name in [&name, &pinned] {
        assert_eq!(cri.pull(name).await.unwrap(), id, "{name}");
    }
    let pod = cri.sandbox("one").await;
    let container = cri.start(&pod, &name, &["/bin/busybox", "true"]).await;
    assert_eq!(cri.ended(&container.unwrap()).await, 0);
    cri.remove(pod).await;
}

#[tokio::test]
async fn an_image_that_is_only_held_is_pulled_without_a_layer_and_again_without_its_registry() {
    let (mut origin, image) = (Upstream::start(), busybox(Form::Gzip, "web"));
    image.push(&origin, "team/web", "latest").await;
    let relay = Relay::start(origin.address, []).await;
    let mirrored = Mirrored::start(relay.address, |site| {
        site.unrecorded = vec![Pattern::new("*:latest")];
    })
    .await;
    let name = of(relay.address, "team/web:latest");
    mirrored.deliver(&[(&name, &image)]).await;
    let mut cri = mirrored.cri().await;
    assert!(cri.image(&name).await.is_none());
    let before = relay.seen();
    let id = sha256(&image.config).to_string();
    assert_eq!(cri.pull(&name).await.unwrap(), id);
    assert_eq!(relay.seen(), before, "blobs were asked for");
    origin.kill();
    // 502 from the relay: as good as no answer.
    assert_eq!(cri.pull(&name).await.unwrap(), id);
}

#[tokio::test]
async fn a_tag_that_moved_is_pulled_as_it_is_now_and_never_as_it_was() {
    let (mut origin, image) = (Upstream::start(), busybox(Form::Gzip, "web"));
    image.push(&origin, "team/web", "1").await;
    let mirrored = Mirrored::start(origin.address, |_| {}).await;
    let name = of(origin.address, "team/web:1");
    mirrored.deliver(&[(&name, &image)]).await;
    let newer = busybox(Form::Gzip, "newer");
    newer.push(&origin, "team/web", "1").await;
    let mut cri = mirrored.cri().await;
    let id = sha256(&newer.config).to_string();
    assert_eq!(cri.pull(&name).await.unwrap(), id);
    origin.kill();
    assert!(cri.pull(&name).await.is_err(), "what it was is not pulled");
}

#[tokio::test]
async fn a_private_image_is_for_who_has_a_token_and_its_pull_moves_no_layer() {
    for scheme in [Scheme::Bearer, Scheme::Basic] {
        let (origin, image) = (Upstream::start(), busybox(Form::Gzip, "web"));
        image.push(&origin, "team/web", "1").await;
        let gate = Gate::start(origin.address, scheme).await;
        let (user, password) = USER;
        let mirrored = Mirrored::start(gate.address, |site| {
            site.keychain.add(&gate.address.to_string(), user, password);
        })
        .await;
        let name = of(gate.address, "team/web:1");
        mirrored.deliver(&[(&name, &image)]).await;
        let mut cri = mirrored.cri().await;
        assert!(cri.image(&name).await.is_none(), "held, not recorded");
        for wrong in [None, Some((user, "wrong"))] {
            let refused = cri.pull_as(&name, wrong).await;
            assert!(refused.is_err(), "{scheme:?} {wrong:?}");
        }
        let registry = gate.address.to_string();
        let pinned = format!("team/web/manifests/{}", sha256(&image.manifest));
        for path in ["team/web/manifests/1", &pinned] {
            let (status, body) = mirrored.asked(&registry, path).await;
            let refusal = match scheme {
                Scheme::Bearer => 401,
                Scheme::Basic => 404,
            };
            assert_eq!(status, refusal, "{scheme:?} {path}");
            assert!(!body.contains("layers"), "{body}");
        }
        let before = gate.passed().len();
        let id = sha256(&image.config).to_string();
        assert_eq!(cri.pull_as(&name, Some(USER)).await.unwrap(), id);
        // Documents may be: an index that the agent had no reason to fetch.
        let passed = gate.passed().split_off(before);
        assert!(
            passed.iter().all(|line| !line.contains("/blobs/")),
            "{passed:?}"
        );
    }
}

#[tokio::test]
async fn what_the_mirror_does_not_know_is_pulled_from_its_registry_at_once() {
    let (origin, image) = (Upstream::start(), busybox(Form::Gzip, "other"));
    image.push(&origin, "team/other", "1").await;
    let mut mirrored = Mirrored::start(origin.address, |_| {}).await;
    let begun = Instant::now();
    let registry = origin.address.to_string();
    let (status, _) = mirrored.asked(&registry, "team/other/manifests/1").await;
    assert_eq!(status, 404);
    // A dead registry costs seconds; an answer on loopback two milliseconds on an idle machine.
    assert!(begun.elapsed() < Duration::from_millis(500));
    let mut cri = mirrored.cri().await;
    let name = of(origin.address, "team/other:1");
    let id = sha256(&image.config).to_string();
    assert_eq!(cri.pull(&name).await.unwrap(), id);
    assert!(mirrored.file().exists());
    mirrored.stop().await;
    let left = fs::read_dir(mirrored.node.daemon.certificates()).unwrap();
    assert_eq!(left.count(), 0, "nothing leads to a mirror that has ended");
    assert_eq!(cri.pull(&name).await.unwrap(), id);
}

#[tokio::test]
async fn somebody_elses_hosts_toml_is_left_as_it_is() {
    let (origin, image) = (Upstream::start(), busybox(Form::Gzip, "web"));
    image.push(&origin, "team/web", "1").await;
    let mut mirrored = Mirrored::start(origin.address, |_| {}).await;
    mirrored.stop().await;
    let url = format!("http://{}", origin.address);
    let theirs = format!("server = \"{url}\"\n\n[host.\"{url}\"]\n");
    fs::create_dir(mirrored.file().parent().unwrap()).unwrap();
    fs::write(mirrored.file(), &theirs).unwrap();
    let (_, end, serving) = serve(&mirrored.node, &mirrored.site, &mirrored.runtime).await;
    // A name that means nothing but what their file says.
    let id = mirrored.cri().await.pull("forelay.test/team/web:1").await;
    assert_eq!(id.unwrap(), sha256(&image.config).to_string());
    assert_eq!(fs::read_to_string(mirrored.file()).unwrap(), theirs);
    end.cancel();
    serving.await.unwrap();
    assert_eq!(fs::read_to_string(mirrored.file()).unwrap(), theirs);
}

#[tokio::test]
async fn a_killed_mirror_costs_a_pull_nothing_and_the_next_one_takes_its_file_over() {
    let (origin, image) = (Upstream::start(), busybox(Form::Gzip, "web"));
    image.push(&origin, "team/web", "1").await;
    let mut mirrored = Mirrored::start(origin.address, |_| {}).await;
    let name = of(origin.address, "team/web:1");
    mirrored.deliver(&[(&name, &image)]).await;
    let left = fs::read_to_string(mirrored.file()).unwrap();
    mirrored.stop().await;
    // What kill -9 leaves: a file that leads to a port where nobody listens.
    fs::create_dir(mirrored.file().parent().unwrap()).unwrap();
    fs::write(mirrored.file(), &left).unwrap();
    let mut cri = mirrored.cri().await;
    let begun = Instant::now();
    let id = sha256(&image.config).to_string();
    assert_eq!(cri.pull(&name).await.unwrap(), id);
    // A dead host that hangs costs 30 s (containerd's dial timeout); a refused one nothing: a pull of what is
    // here takes 14 to 64 ms.
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let (address, end, serving) = serve_over(&mirrored).await;
    let now = fs::read_to_string(mirrored.file()).unwrap();
    assert!(now.contains(&address.to_string()), "{now}");
    end.cancel();
    serving.await.unwrap();
    assert!(!mirrored.file().exists());
}

/// As [`serve`], where a file of an earlier run stands.
async fn serve_over(mirrored: &Mirrored) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let (address, end, serving) = serve(&mirrored.node, &mirrored.site, &mirrored.runtime).await;
    let begun = Instant::now();
    while !fs::read_to_string(mirrored.file())
        .unwrap()
        .contains(&address.to_string())
    {
        assert!(begun.elapsed() < Duration::from_secs(10), "not taken over");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (address, end, serving)
}
