//! Snapshots of our snapshotter.

use crate::runtime::containerd::client::{
    Client, DEADLINE, DEADLINE_LONG, MESSAGE_MAX, all, answer,
};
use crate::runtime::containerd::error::{ContainerdError, found};
use crate::runtime::containerd::label::Labels;
use crate::runtime::containerd::lease::LeaseId;
use crate::runtime::containerd::mounts::Mounts;
use crate::runtime::wire::snapshots::snapshots_client::SnapshotsClient;
use crate::runtime::wire::snapshots::{
    CommitSnapshotRequest, Info, ListSnapshotsRequest, MountsRequest, PrepareSnapshotRequest,
    RemoveSnapshotRequest, StatSnapshotRequest, UsageRequest, UsageResponse, ViewSnapshotRequest,
};

impl Client {
    /// A snapshot, active or committed; `None` when there is none of this name.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn snapshot(&self, name: &str) -> Result<Option<Info>, ContainerdError> {
        let request = StatSnapshotRequest {
            snapshotter: self.snapshotter().to_owned(),
            key: name.to_owned(),
        };
        let what = format!("stat snapshot {name}");
        let mut service = self.snapshot_service();
        let call = service.stat(self.request(request, None));
        let answer = found(answer(&what, DEADLINE, call).await)?;
        Ok(answer.and_then(|answer| answer.info))
    }

    /// Every snapshot that passes one of the filters (`parent==..`, `labels."..."==..`); all without any.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn snapshots(&self, filters: &[String]) -> Result<Vec<Info>, ContainerdError> {
        let request = ListSnapshotsRequest {
            snapshotter: self.snapshotter().to_owned(),
            filters: filters.to_vec(),
        };
        let mut service = self.snapshot_service();
        let call = service.list(self.request(request, None));
        all("list snapshots", call, |part| part.info).await
    }

    /// A new active snapshot on top of a committed one, or on nothing.
    ///
    /// # Errors
    /// [`ContainerdError::Exists`] when `key`, or what the label [`SNAPSHOT_REF`](super::label::SNAPSHOT_REF) names,
    /// is there: before 1.7 the lease does NOT hold that then ([`Client::hold_snapshot`] does).
    /// [`ContainerdError::NotFound`] when the parent is not there.
    pub async fn prepare(
        &self,
        lease: &LeaseId,
        key: &str,
        parent: Option<&str>,
        labels: Labels,
    ) -> Result<Mounts, ContainerdError> {
        let request = PrepareSnapshotRequest {
            snapshotter: self.snapshotter().to_owned(),
            key: key.to_owned(),
            parent: parent.unwrap_or_default().to_owned(),
            labels,
        };
        let what = format!("prepare snapshot {key}");
        let mut service = self.snapshot_service();
        let call = service.prepare(self.request(request, Some(lease)));
        let answer = answer(&what, DEADLINE, call).await?;
        Ok(Mounts::new(key, answer.mounts))
    }

    /// A new read-only snapshot of a committed one.
    ///
    /// # Errors
    /// As [`Client::prepare`].
    pub async fn view(
        &self,
        lease: &LeaseId,
        key: &str,
        parent: &str,
    ) -> Result<Mounts, ContainerdError> {
        let request = ViewSnapshotRequest {
            snapshotter: self.snapshotter().to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: Labels::new(),
        };
        let what = format!("view snapshot {parent}");
        let mut service = self.snapshot_service();
        let call = service.view(self.request(request, Some(lease)));
        let answer = answer(&what, DEADLINE, call).await?;
        Ok(Mounts::new(key, answer.mounts))
    }

    /// The mounts of an active snapshot.
    ///
    /// # Errors
    /// [`ContainerdError::NotFound`] when it is not there.
    pub async fn mounts(&self, key: &str) -> Result<Mounts, ContainerdError> {
        let request = MountsRequest {
            snapshotter: self.snapshotter().to_owned(),
            key: key.to_owned(),
        };
        let what = format!("tell the mounts of snapshot {key}");
        let mut service = self.snapshot_service();
        let call = service.mounts(self.request(request, None));
        let answer = answer(&what, DEADLINE, call).await?;
        Ok(Mounts::new(key, answer.mounts))
    }

    /// Makes the active snapshot `key` the committed snapshot `name`; the lease then holds that.
    ///
    /// # Errors
    /// [`ContainerdError::Exists`] when `name` is there: `key` stays active, and the lease does not hold `name`.
    pub async fn commit(
        &self,
        lease: &LeaseId,
        name: &str,
        key: &str,
        labels: Labels,
    ) -> Result<(), ContainerdError> {
        let request = CommitSnapshotRequest {
            snapshotter: self.snapshotter().to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels,
            parent: None,
        };
        let what = format!("commit snapshot {name}");
        let mut service = self.snapshot_service();
        // The snapshotter walks the whole tree to count its bytes and inodes.
        let call = service.commit(self.request(request, Some(lease)));
        answer(&what, DEADLINE_LONG, call).await
    }

    /// Removes a snapshot; false when there was none.
    ///
    /// # Errors
    /// [`ContainerdError::Precondition`] when another one stands on it.
    pub async fn remove_snapshot(&self, key: &str) -> Result<bool, ContainerdError> {
        let request = RemoveSnapshotRequest {
            snapshotter: self.snapshotter().to_owned(),
            key: key.to_owned(),
        };
        let what = format!("remove snapshot {key}");
        let mut service = self.snapshot_service();
        let call = service.remove(self.request(request, None));
        let answer = found(answer(&what, DEADLINE_LONG, call).await)?;
        Ok(answer.is_some())
    }

    /// Bytes and inodes of a snapshot without what lies below it; a walk for an active one.
    ///
    /// # Errors
    /// [`ContainerdError::NotFound`] when it is not there.
    pub async fn usage(&self, key: &str) -> Result<UsageResponse, ContainerdError> {
        let request = UsageRequest {
            snapshotter: self.snapshotter().to_owned(),
            key: key.to_owned(),
        };
        let what = format!("tell the size of snapshot {key}");
        let mut service = self.snapshot_service();
        let call = service.usage(self.request(request, None));
        answer(&what, DEADLINE_LONG, call).await
    }

    /// Makes the lease hold a committed snapshot and all below it; false when there is none.
    ///
    /// # Errors
    /// [`ContainerdError::NotFound`] when the lease is gone.
    pub async fn hold_snapshot(
        &self,
        lease: &LeaseId,
        name: &str,
    ) -> Result<bool, ContainerdError> {
        // Held first, looked for afterwards: a collection in between can no longer take it.
        let kind = format!("snapshots/{}", self.snapshotter());
        self.lease_add(lease, name, &kind).await?;
        Ok(self.snapshot(name).await?.is_some())
    }

    fn snapshot_service(&self) -> SnapshotsClient<tonic::transport::Channel> {
        SnapshotsClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }
}
