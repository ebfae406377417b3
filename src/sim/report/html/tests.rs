//! The page of a small replay.

use crate::domain::image::ImageRef;
use crate::forecast::model::Model;
use crate::sim::policy::{Policy, Replay, Setting, replay_in};
use crate::sim::report::{Report, page};
use crate::sim::tests::build::Build;
