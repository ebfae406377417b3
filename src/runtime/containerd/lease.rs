//! Leases: what a crashed agent leaves ends by itself, and what a living one holds does not.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::domain::time::Timestamp;
use crate::runtime::containerd::client::{
    Client, DEADLINE, DEADLINE_LONG, MESSAGE_MAX, answer, header,
};
use crate::runtime::containerd::error::{ContainerdError, found};
use crate::runtime::containerd::label::{EXPIRE, OURS};
use crate::runtime::wire::leases::leases_client::LeasesClient;
use crate::runtime::wire::leases::{
    AddResourceRequest, CreateRequest, DeleteRequest, Lease as Told, ListRequest,
    ListResourcesRequest, Resource,
};

/// The name of a lease, fit for a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseId(MetadataValue<Ascii>);

/// One of our leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name, chosen by containerd.
    pub id: LeaseId,
    /// What it was begun for: the value of our label.
    pub purpose: String,
    /// When it stops to hold; `None` when that label cannot be read: containerd then keeps it for ever.
    pub expires: Option<Timestamp>,
}

/// Whether a call waits until what nothing holds any more has been collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collect {
    /// With the next collection, whenever that is.
    Later,
    /// Before the call returns: seconds, where there is much.
    Now,
}

/// A lease that is renewed for as long as it is needed.
///
/// containerd cannot change a lease, and deleting one to make it again would let a collection in between. So
/// a renewal makes another lease, lets it hold what the old one holds, and hands out its name from then on.
/// The old one is deleted one renewal later, after what calls that were under way put into it has been taken
/// over too: at every instant all of it is held by a lease that has not expired, if renewals are no more
/// than a third of the term apart.
#[derive(Debug)]
pub struct Tenure {
    purpose: String,
    term: Duration,
    current: Mutex<LeaseId>,
    /// Oldest first; more than one after a renewal that failed half-way; `None` once it is ended.
    before: tokio::sync::Mutex<Option<Vec<LeaseId>>>,
}

// === impl LeaseId ===

impl LeaseId {
    /// The name of a lease as containerd tells it.
    ///
    /// # Errors
    /// [`ContainerdError::Invalid`] when it cannot be sent as a header.
    pub fn new(text: &str) -> Result<Self, ContainerdError> {
        header(text).map(Self)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        // Made from a `str`.
        self.0.to_str().unwrap_or_default()
    }

    pub(super) fn header(&self) -> MetadataValue<Ascii> {
        self.0.clone()
    }
}

// === impl Client ===

impl Client {
    /// Begins a lease of ours that holds until `expires`: minutes, so that a crash leaves nothing behind.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn lease_begin(
        &self,
        purpose: &str,
        expires: Timestamp,
    ) -> Result<Lease, ContainerdError> {
        let labels = [(OURS, purpose.to_owned()), (EXPIRE, expires.to_string())];
        let request = CreateRequest {
            id: String::new(),
            labels: labels.map(|(key, value)| (key.to_owned(), value)).into(),
        };
        let mut service = self.lease_service();
        let call = service.create(self.request(request, None));
        let told = answer("begin a lease", DEADLINE, call).await?.lease;
        Ok(Lease {
            id: LeaseId::new(&told.unwrap_or_default().id)?,
            purpose: purpose.to_owned(),
            expires: Some(expires),
        })
    }

    /// Ends a lease: what nothing else holds is collected. False when it was gone.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn lease_end(
        &self,
        lease: &LeaseId,
        collect: Collect,
    ) -> Result<bool, ContainerdError> {
        let request = DeleteRequest {
            id: lease.as_str().to_owned(),
            sync: collect == Collect::Now,
        };
        let what = format!("end lease {}", lease.as_str());
        let mut service = self.lease_service();
        let call = service.delete(self.request(request, None));
        let ended = found(answer(&what, DEADLINE_LONG, call).await)?;
        Ok(ended.is_some())
    }

    /// Leases that Forelay began, earlier runs included.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn leases(&self) -> Result<Vec<Lease>, ContainerdError> {
        let filters = vec![format!("labels.\"{OURS}\"")];
        let mut service = self.lease_service();
        let call = service.list(self.request(ListRequest { filters }, None));
        let told = answer("list leases", DEADLINE, call).await?.leases;
        told.into_iter().map(ours).collect()
    }

    /// Ends every lease of ours that is not in `keep`; how many there were. At an agent's start all
    /// others are a crashed run's.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn sweep(
        &self,
        keep: &[LeaseId],
        collect: Collect,
    ) -> Result<usize, ContainerdError> {
        let mut old = self.leases().await?;
        old.retain(|lease| !keep.contains(&lease.id));
        for (i, lease) in old.iter().enumerate() {
            let last = i + 1 == old.len();
            let collect = if last { collect } else { Collect::Later };
            self.lease_end(&lease.id, collect).await?;
        }
        Ok(old.len())
    }

    /// What a lease holds: IDs, and types (`content`, `ingests`, `snapshots/overlayfs`).
    ///
    /// # Errors
    /// [`ContainerdError::NotFound`] when the lease is gone.
    pub async fn held(&self, lease: &LeaseId) -> Result<Vec<Resource>, ContainerdError> {
        let id = lease.as_str().to_owned();
        let what = format!("tell what lease {id} holds");
        let mut service = self.lease_service();
        let call = service.list_resources(self.request(ListResourcesRequest { id }, None));
        Ok(answer(&what, DEADLINE, call).await?.resources)
    }

    /// Makes a lease hold something more, which need not be there.
    pub(super) async fn lease_add(
        &self,
        lease: &LeaseId,
        id: &str,
        kind: &str,
    ) -> Result<(), ContainerdError> {
        let what = format!("hold {id} with lease {}", lease.as_str());
        let resource = Resource {
            id: id.to_owned(),
            r#type: kind.to_owned(),
        };
        let request = AddResourceRequest {
            id: lease.as_str().to_owned(),
            resource: Some(resource),
        };
        let mut service = self.lease_service();
        let call = service.add_resource(self.request(request, None));
        answer(&what, DEADLINE, call).await
    }

    /// Makes `to` hold what `from` holds; nothing when `from` is gone.
    async fn take_over(&self, from: &LeaseId, to: &LeaseId) -> Result<(), ContainerdError> {
        for resource in found(self.held(from).await)?.unwrap_or_default() {
            self.lease_add(to, &resource.id, &resource.r#type).await?;
        }
        Ok(())
    }

    fn lease_service(&self) -> LeasesClient<Channel> {
        LeasesClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }
}

// === impl Tenure ===

impl Tenure {
    /// Begins a lease for `term` from `now` on.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn begin(
        client: &Client,
        purpose: &str,
        now: Timestamp,
        term: Duration,
    ) -> Result<Self, ContainerdError> {
        let lease = client.lease_begin(purpose, now + term).await?;
        Ok(Self {
            purpose: purpose.to_owned(),
            term,
            current: Mutex::new(lease.id),
            before: tokio::sync::Mutex::new(Some(Vec::new())),
        })
    }

    /// The lease to create things under now. Do not keep it for longer than one call.
    pub fn id(&self) -> LeaseId {
        let current = self.current.lock();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long after the last one a renewal is due.
    pub fn interval(&self) -> Duration {
        self.term / 3
    }

    /// Lets everything be held for another term from `now` on.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked: what was held is held as before, and the next
    /// renewal makes up for this one.
    pub async fn renew(&self, client: &Client, now: Timestamp) -> Result<(), ContainerdError> {
        let mut before = self.before.lock().await;
        let Some(before) = before.as_mut() else {
            return Ok(());
        };
        let old = self.id();
        let new = client.lease_begin(&self.purpose, now + self.term).await?;
        if let Err(error) = client.take_over(&old, &new.id).await {
            // It would only be in the way; it ends by itself where this fails too.
            let _ = client.lease_end(&new.id, Collect::Later).await;
            return Err(error);
        }
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = new.id.clone();
        let late = std::mem::replace(before, vec![old]);
        for (i, lease) in late.iter().enumerate() {
            let taken = client.take_over(lease, &new.id).await;
            let ended = match taken {
                Ok(()) => client.lease_end(lease, Collect::Later).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                before.splice(0..0, late[i..].iter().cloned());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends it: what no image record leads to is collected.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked: the lease ends by itself after its term.
    pub async fn end(&self, client: &Client, collect: Collect) -> Result<(), ContainerdError> {
        // A renewal that is under way is waited for: what it makes ends, too.
        let before = self.before.lock().await.take();
        for lease in before.unwrap_or_default() {
            client.lease_end(&lease, Collect::Later).await?;
        }
        client.lease_end(&self.id(), collect).await.map(drop)
    }
}

fn ours(told: Told) -> Result<Lease, ContainerdError> {
    let label = |key: &str| told.labels.get(key);
    Ok(Lease {
        id: LeaseId::new(&told.id)?,
        purpose: label(OURS).cloned().unwrap_or_default(),
        expires: label(EXPIRE).and_then(|text| text.parse().ok()),
    })
}
