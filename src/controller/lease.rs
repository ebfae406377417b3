//! Leadership over a Lease: a claim ends before anybody else's can begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::controller::lease::preference::Preference;
use crate::port::Clock;

mod preference;

/// On our Lease: the candidate that the followed Lease prefers, and that asks for its turn.
const ASKED_BY: &str = "forelay.dev/asked-by";

/// Which Lease, as whom, for how long.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// This replica, unlike any other: a pod's name.
    pub identity: String,
    /// After so long without a sign of life another replica has taken over.
    pub duration: Duration,
    /// Whose holder had best lead: the replica of that identity is let through, and asks for its turn.
    pub follow: Option<FollowedLease>,
}

/// A Lease of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedLease {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Who leads, as far as this replica knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Identity in the Lease; `None` when it is free or not yet read.
    pub holder: Option<String>,
    /// Transitions of the Lease: grows with every change of leader.
    pub epoch: u64,
    /// Until when this replica may write; `None` when it is not the holder.
    until: Option<Instant>,
}

/// What other parts of the controller hold of the election.
#[derive(Clone, Debug)]
pub struct Seat {
    claims: watch::Receiver<Claim>,
    orders: Arc<Orders>,
}

/// Takes part in the election until it is told to leave.
pub struct Elector {
    client: kube::Client,
    api: Api<Lease>,
    clock: Arc<dyn Clock>,
    options: LeaseOptions,
    claims: watch::Sender<Claim>,
    orders: Arc<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    /// Epochs up to here have been used by somebody: a deleted Lease must not bring them back.
    floor: AtomicU64,
    step_down: Notify,
}

/// The Lease as last seen, and since when it has looked like that on this machine.
struct Sighting {
    lease: Lease,
    since: Instant,
}

/// A time in office.
struct Term {
    lease: Lease,
    epoch: u64,
    renewed: Instant,
}

/// For so many durations of the Lease its turn is left to whom the followed Lease prefers: time for its start.
const DEFERENCE: u32 = 2;

enum Standing {
    Candidate(Option<Sighting>),
    Leader(Term),
}

impl Term {
    /// Whether a candidate that ought to lead has asked to.
    fn is_wanted_by(&self, preferred: Option<&str>) -> bool {
        let asked = self.lease.metadata.annotations.as_ref();
        let asked = asked.and_then(|annotations| annotations.get(ASKED_BY));
        preferred.is_some() && asked.map(String::as_str) == preferred
    }
}

// === impl Claim ===

impl Claim {
    /// The epoch to write with, while this replica leads.
    #[must_use]
    pub fn epoch_now(&self) -> Option<u64> {
        self.until
            .filter(|until| Instant::now() < *until)
            .map(|_| self.epoch)
    }
}

// === impl Seat ===

impl Seat {
    /// The epoch to write with, while this replica leads.
    #[must_use]
    pub fn epoch_now(&self) -> Option<u64> {
        self.claims.borrow().epoch_now()
    }

    /// The claim as it is now.
    #[must_use]
    pub fn claim(&self) -> Claim {
        self.claims.borrow().clone()
    }

    /// Waits for the next change: of leader, of epoch, or a renewal.
    pub async fn changed(&mut self) {
        if self.claims.changed().await.is_err() {
            // The elector is gone: nothing will ever change.
            std::future::pending::<()>().await;
        }
    }

    /// Epochs up to `epoch` are taken: the next term of this replica begins above.
    pub fn raise_floor(&self, epoch: u64) {
        self.orders.floor.fetch_max(epoch, Ordering::Relaxed);
    }

    /// Somebody newer has written: this replica's term is over.
    pub fn step_down(&self) {
        self.orders.step_down.notify_one();
    }
}

// === impl Elector ===

impl Elector {
    /// A candidate and the seat that it runs for.
    #[must_use]
    pub fn new(client: kube::Client, clock: Arc<dyn Clock>, options: LeaseOptions) -> (Self, Seat) {
        let (claims, receiver) = watch::channel(Claim::default());
        let orders = Arc::<Orders>::default();
        let seat = Seat {
            claims: receiver,
            orders: orders.clone(),
        };
        let elector = Self {
            api: Api::namespaced(client.clone(), &options.namespace),
            client,
            clock,
            options,
            claims,
            orders,
        };
        (elector, seat)
    }

    // The shares of the duration d, all counted on the monotonic clock of one machine: two
    // machines' clocks are never compared. A holder renews at d/3 and stops writing 3d/5 after it
    // SENT the last renewal that succeeded; a candidate waits 4d/5 after it SAW the last change.
    // Between the two lies d/5 for clocks that run at different rates; between a candidate's 4d/5
    // and d lies the pause between its looks (d/10) and the write that takes the Lease.

    fn renewal_interval(&self) -> Duration {
        self.options.duration / 3
    }

    fn claim_span(&self) -> Duration {
        self.options.duration * 3 / 5
    }

    fn retry_interval(&self) -> Duration {
        self.options.duration / 10
    }

    fn whole_seconds(&self) -> i32 {
        i32::try_from(self.options.duration.as_millis().div_ceil(1000))
            .unwrap_or(i32::MAX)
            .max(1)
    }

    /// How long a silent holder of this Lease is waited for.
    fn patience(&self, lease: &Lease) -> Duration {
        let written = lease.spec.as_ref().and_then(|s| s.lease_duration_seconds);
        let duration = match written {
            Some(secs) if secs != self.whole_seconds() => {
                Duration::from_secs(u64::try_from(secs).unwrap_or(0))
            }
            _ => self.options.duration,
        };
        duration * 4 / 5
    }

    /// Takes part until `leave`, then gives the Lease back so that a successor need not wait.
    pub async fn run(self, leave: CancellationToken) {
        let mut standing = Standing::Candidate(None);
        let followed = self.options.follow.as_ref();
        let mut preference = followed.map(|one| Preference::new(self.client.clone(), one));
        loop {
            // Short enough that a renewal after it still comes in time.
            let preferred = match &mut preference {
                Some(preference) => preference.look(self.retry_interval()).await,
                None => None,
            };
            let (next, pause) = match standing {
                Standing::Candidate(seen) => self.stand(seen, preferred).await,
                Standing::Leader(term) if term.is_wanted_by(preferred.as_deref()) => {
                    info!(epoch = term.epoch, successor = ?preferred, "handing over");
                    self.release(term).await;
                    (Standing::Candidate(None), self.retry_interval())
                }
                Standing::Leader(term) => self.govern(term).await,
            };
            standing = next;
            tokio::select! {
                () = leave.cancelled() => break,
                () = self.orders.step_down.notified() => {
                    if let Standing::Leader(term) = standing {
                        warn!(epoch = term.epoch, "a newer leader has written: stepping down");
                        self.publish_loss(&term.lease);
                        standing = Standing::Candidate(None);
                    }
                }
                () = sleep(pause) => {}
            }
        }
        if let Standing::Leader(term) = standing {
            self.release(term).await;
        }
    }

    async fn stand(
        &self,
        seen: Option<Sighting>,
        preferred: Option<String>,
    ) -> (Standing, Duration) {
        let pause = self.retry_interval();
        let found = match self.bounded(self.api.get_opt(&self.options.name)).await {
            Ok(found) => found,
            Err(reason) => {
                warn!(%reason, "the Lease cannot be read");
                return (Standing::Candidate(seen), pause);
            }
        };
        let Some(lease) = found else {
            return self.take(None).await;
        };
        self.orders
            .floor
            .fetch_max(epoch_of(&lease), Ordering::Relaxed);
        let now = Instant::now();
        let sighting = match seen {
            Some(old) if old.lease.spec == lease.spec => old,
            _ => {
                self.publish_other(&lease);
                Sighting {
                    lease: lease.clone(),
                    since: now,
                }
            }
        };
        let holder = holder_of(&lease);
        // Our own name: an earlier life of this replica, which its restart has ended.
        let free = holder.is_none_or(|h| h.is_empty() || h == self.options.identity);
        let waited = now.duration_since(sighting.since);
        let (mine, another) = preferred.map_or((false, false), |preferred| {
            let mine = preferred == self.options.identity;
            (mine, !mine)
        });
        let mut patience = if free {
            Duration::ZERO
        } else {
            self.patience(&lease)
        };
        if another {
            // Its turn, if it is there; if it is not, somebody has to lead.
            patience += self.options.duration * DEFERENCE;
        }
        if waited >= patience {
            return self.take(Some(lease)).await;
        }
        if mine {
            self.ask(lease).await;
        }
        let pause = pause.min(patience.saturating_sub(waited));
        (Standing::Candidate(Some(sighting)), pause)
    }

    /// Puts this replica's name on a Lease that another one holds: it reads it with its next renewal.
    async fn ask(&self, mut lease: Lease) {
        let asked = lease.metadata.annotations.get_or_insert_default();
        let identity = &self.options.identity;
        if asked.get(ASKED_BY) == Some(identity) {
            return;
        }
        asked.insert(ASKED_BY.to_owned(), identity.clone());
        let name = &self.options.name;
        let params = PostParams::default();
        if let Err(reason) = self.bounded(self.api.replace(name, &params, &lease)).await {
            info!(%reason, "the Lease could not be asked for");
        }
    }

    async fn take(&self, found: Option<Lease>) -> (Standing, Duration) {
        let floor = self.orders.floor.load(Ordering::Relaxed);
        let epoch = found.as_ref().map_or(0, epoch_of).max(floor) + 1;
        let now = MicroTime(jiff::Timestamp::UNIX_EPOCH + self.since_epoch());
        let metadata = found.map_or_else(
            || ObjectMeta {
                name: Some(self.options.name.clone()),
                namespace: Some(self.options.namespace.clone()),
                ..ObjectMeta::default()
            },
            |mut lease| {
                if let Some(annotations) = &mut lease.metadata.annotations {
                    annotations.remove(ASKED_BY);
                }
                lease.metadata
            },
        );
        let is_new = metadata.resource_version.is_none();
        let lease = Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.options.identity.clone()),
                lease_duration_seconds: Some(self.whole_seconds()),
                lease_transitions: Some(i32::try_from(epoch).unwrap_or(i32::MAX)),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        let params = PostParams::default();
        let sent = Instant::now();
        let written = if is_new {
            self.bounded(self.api.create(&params, &lease)).await
        } else {
            let name = &self.options.name;
            self.bounded(self.api.replace(name, &params, &lease)).await
        };
        match written {
            Ok(lease) => {
                info!(epoch, identity = %self.options.identity, "leading");
                let term = Term {
                    lease,
                    epoch,
                    renewed: sent,
                };
                self.publish_term(&term);
                (Standing::Leader(term), self.renewal_interval())
            }
            Err(reason) => {
                info!(%reason, "the Lease was not to be had");
                (Standing::Candidate(None), self.retry_interval())
            }
        }
    }

    async fn govern(&self, mut term: Term) -> (Standing, Duration) {
        let mut wanted = term.lease.clone();
        if let Some(spec) = &mut wanted.spec {
            let now = MicroTime(jiff::Timestamp::UNIX_EPOCH + self.since_epoch());
            spec.renew_time = Some(now);
        }
        let sent = Instant::now();
        let name = &self.options.name;
        let params = PostParams::default();
        match self.bounded(self.api.replace(name, &params, &wanted)).await {
            Ok(lease) => {
                term.lease = lease;
                term.renewed = sent;
                self.publish_term(&term);
                (Standing::Leader(term), self.renewal_interval())
            }
            Err(Trouble::Api(kube::Error::Api(status)))
                if status.code == 409 || status.code == 404 =>
            {
                self.contested(term).await
            }
            Err(reason) => {
                warn!(%reason, "the Lease was not renewed");
                if term.renewed.elapsed() >= self.claim_span() {
                    self.publish_loss(&term.lease);
                    return (Standing::Candidate(None), self.retry_interval());
                }
                (Standing::Leader(term), self.retry_interval())
            }
        }
    }

    /// Somebody has written the Lease: a successor, or a tool that touched its labels.
    async fn contested(&self, mut term: Term) -> (Standing, Duration) {
        let found = self.bounded(self.api.get_opt(&self.options.name)).await;
        if let Ok(Some(lease)) = found
            && holder_of(&lease) == Some(&self.options.identity)
            && epoch_of(&lease) == term.epoch
            && term.renewed.elapsed() < self.claim_span()
        {
            term.lease = lease;
            return (Standing::Leader(term), Duration::ZERO);
        }
        warn!(epoch = term.epoch, "the Lease is somebody else's now");
        self.orders.floor.fetch_max(term.epoch, Ordering::Relaxed);
        self.publish_loss(&term.lease);
        (Standing::Candidate(None), Duration::ZERO)
    }

    async fn release(&self, term: Term) {
        self.publish_loss(&term.lease);
        let mut lease = term.lease;
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        let name = &self.options.name;
        let params = PostParams::default();
        match self.bounded(self.api.replace(name, &params, &lease)).await {
            Ok(_) => info!(epoch = term.epoch, "the Lease is given back"),
            Err(reason) => warn!(%reason, "the Lease could not be given back: it will run out"),
        }
    }

    fn publish_term(&self, term: &Term) {
        self.claims.send_replace(Claim {
            holder: Some(self.options.identity.clone()),
            epoch: term.epoch,
            until: Some(term.renewed + self.claim_span()),
        });
    }

    fn publish_other(&self, lease: &Lease) {
        self.claims.send_replace(Claim {
            holder: holder_of(lease).map(str::to_owned),
            epoch: epoch_of(lease),
            until: None,
        });
    }

    fn publish_loss(&self, lease: &Lease) {
        self.claims.send_replace(Claim {
            holder: None,
            epoch: epoch_of(lease),
            until: None,
        });
    }

    fn since_epoch(&self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_micros(self.clock.now().as_micros())
    }

    /// One request may not outlast a third of the duration: the client's own retries would go on
    /// long after the claim is void.
    async fn bounded<T>(
        &self,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Trouble> {
        match timeout(self.options.duration / 3, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Trouble::Api(error)),
            Err(_) => Err(Trouble::Silence),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Api(kube::Error),
    #[error("the API server did not answer in time")]
    Silence,
}

fn holder_of(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

fn epoch_of(lease: &Lease) -> u64 {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.lease_transitions)
        .and_then(|transitions| u64::try_from(transitions).ok())
        .unwrap_or(0)
}
