//! Image records: names that lead to manifests, which CRI takes up within milliseconds.

use tonic::transport::Channel;

use crate::runtime::containerd::client::{Client, DEADLINE, DEADLINE_LONG, MESSAGE_MAX, answer};
use crate::runtime::containerd::error::{ContainerdError, found};
use crate::runtime::containerd::label::Labels;
use crate::runtime::containerd::lease::Collect;
use crate::runtime::wire::images::images_client::ImagesClient;
use crate::runtime::wire::images::{
    CreateImageRequest, DeleteImageRequest, GetImageRequest, Image, ListImagesRequest,
    UpdateImageRequest,
};
use crate::runtime::wire::types::Descriptor;

impl Client {
    /// The record of this exact name; `None` when there is none.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn image(&self, name: &str) -> Result<Option<Image>, ContainerdError> {
        let name = name.to_owned();
        let what = format!("get image {name}");
        let mut service = self.image_service();
        let call = service.get(self.request(GetImageRequest { name }, None));
        let answer = found(answer(&what, DEADLINE, call).await)?;
        Ok(answer.and_then(|answer| answer.image))
    }

    /// Every record that passes one of the filters (`name==..`, `labels."..."`); all without any.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked.
    pub async fn images(&self, filters: &[String]) -> Result<Vec<Image>, ContainerdError> {
        let filters = filters.to_vec();
        let mut service = self.image_service();
        let call = service.list(self.request(ListImagesRequest { filters }, None));
        Ok(answer("list images", DEADLINE, call).await?.images)
    }

    /// Makes a record: all that `target` leads to has to be there, for CRI reads it at once.
    ///
    /// # Errors
    /// [`ContainerdError::Exists`] when there is a record of this name.
    pub async fn create_image(
        &self,
        name: &str,
        target: Descriptor,
        labels: Labels,
    ) -> Result<(), ContainerdError> {
        let image = Some(record(name, Some(target), labels));
        let what = format!("create image {name}");
        let mut service = self.image_service();
        let call = service.create(self.request(CreateImageRequest { image }, None));
        answer(&what, DEADLINE, call).await.map(drop)
    }

    /// Points a record at another target, where one is given, and sets these labels; others stay.
    ///
    /// # Errors
    /// [`ContainerdError::NotFound`] when there is no such record.
    pub async fn update_image(
        &self,
        name: &str,
        target: Option<Descriptor>,
        labels: Labels,
    ) -> Result<(), ContainerdError> {
        // The mask alone decides, but a request without a target ends containerd 2.x: a nil pointer in
        // `oci.DescriptorFromProto`, and no handler that recovers (seen with 2.3.4).
        let has_target = target.is_some();
        let target = Some(target.unwrap_or_default());
        let mut paths: Vec<String> = labels.keys().map(|key| format!("labels.{key}")).collect();
        if has_target {
            paths.push("target".to_owned());
        }
        // An empty mask replaces everything.
        if paths.is_empty() {
            return Ok(());
        }
        let request = UpdateImageRequest {
            image: Some(record(name, target, labels)),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        let what = format!("update image {name}");
        let mut service = self.image_service();
        let call = service.update(self.request(request, None));
        answer(&what, DEADLINE, call).await.map(drop)
    }

    /// Deletes a record; false when there was none. With `target`, daemons since 2.0 delete it only while it
    /// still has that digest.
    ///
    /// # Errors
    /// [`ContainerdError`] when the daemon cannot be asked; [`ContainerdError::NotFound`] is none.
    pub async fn delete_image(
        &self,
        name: &str,
        target: Option<Descriptor>,
        collect: Collect,
    ) -> Result<bool, ContainerdError> {
        let request = DeleteImageRequest {
            name: name.to_owned(),
            sync: collect == Collect::Now,
            target,
        };
        let what = format!("delete image {name}");
        let mut service = self.image_service();
        let call = service.delete(self.request(request, None));
        let answer = found(answer(&what, DEADLINE_LONG, call).await)?;
        Ok(answer.is_some())
    }

    fn image_service(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }
}

fn record(name: &str, target: Option<Descriptor>, labels: Labels) -> Image {
    Image {
        name: name.to_owned(),
        labels,
        target,
        ..Image::default()
    }
}
