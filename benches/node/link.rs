//! A network namespace behind a link of a given speed: token bucket, no added delay.

use std::net::Ipv4Addr;

use crate::disk::run;
use crate::images::Image;
use crate::{Form, Link, stream};

/// Ours and the namespace's end: documentation addresses (RFC 5737) that no machine has.
const HERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// The namespace; gone with its link when dropped.
pub struct Net {
    name: String,
}

impl Net {
    pub fn new(link: Link) -> anyhow::Result<Option<Self>> {
        let Some(rate) = link.rate() else {
            return Ok(None);
        };
        let pid = std::process::id();
        let name = format!("fnb{pid}");
        run(&["ip", "netns", "add", &name], &[])?;
        let net = Self { name };
        // Names of interfaces have 15 bytes at most.
        let (near, far) = (format!("fnbh{pid}"), format!("fnbn{pid}"));
        let (here, there) = (format!("{HERE}/30"), format!("{THERE}/30"));
        let name = net.name.as_str();
        for line in [
            format!("ip link add {near} type veth peer name {far} netns {name}"),
            format!("ip addr add {here} dev {near}"),
            format!("ip link set {near} up"),
            format!("ip -n {name} addr add {there} dev {far}"),
            format!("ip -n {name} link set {far} up"),
            format!("ip -n {name} link set lo up"),
            format!("tc qdisc add dev {near} root tbf rate {rate} burst 256kb latency 50ms"),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            run(&words, &[])?;
        }
        Ok(Some(net))
    }

    /// For `nsenter`.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Seconds in which one plain stream brings an image's layers through the link.
    pub fn floor_s(&self, port: u16, image: &Image, form: Form) -> anyhow::Result<f64> {
        let within = ["nsenter".into(), format!("--net={}", self.path())];
        let spent = stream::receive(&within, &Self::address(port), image, form)?;
        Ok(spent.wall_s)
    }

    /// Where the registry is, from within.
    pub fn address(port: u16) -> String {
        format!("{HERE}:{port}")
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = run(&["ip", "netns", "del", &self.name], &[]);
    }
}
