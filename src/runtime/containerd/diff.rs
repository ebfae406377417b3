//! Unpacking by the daemon itself: for what a renamed directory cannot be.

use crate::runtime::containerd::client::{Client, DEADLINE_LONG, answer};
use crate::runtime::containerd::error::ContainerdError;
use crate::runtime::containerd::lease::LeaseId;
use crate::runtime::containerd::mounts::Mounts;
use crate::runtime::wire::diff::ApplyRequest;
use crate::runtime::wire::diff::diff_client::DiffClient;
use crate::runtime::wire::types::Descriptor;

impl Client {
    /// Unpacks a layer of the content store into a prepared snapshot; what the uncompressed tar was: its
    /// digest is the diff ID that came, and has to be compared before the commit.
    ///
    /// # Errors
    /// [`ContainerdError`] when the layer is not there, is no tar, or the disk is full.
    pub async fn apply(
        &self,
        lease: &LeaseId,
        layer: Descriptor,
        mounts: &Mounts,
    ) -> Result<Descriptor, ContainerdError> {
        let what = format!("unpack {}", layer.digest);
        let request = ApplyRequest {
            diff: Some(layer),
            mounts: mounts.as_told().to_vec(),
        };
        let mut service = DiffClient::new(self.channel());
        let call = service.apply(self.request(request, Some(lease)));
        let answer = answer(&what, DEADLINE_LONG, call).await?;
        Ok(answer.applied.unwrap_or_default())
    }
}
