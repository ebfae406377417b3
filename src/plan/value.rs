//! When an image is worth its bytes: the newsvendor rule.

use crate::domain::quantity::ByteSize;
use crate::forecast::model::Price;

/// The probability from which sending pays.
///
/// Sending in vain costs `bytes`; not sending costs each waiting pod `bytes / rate + overhead`
/// seconds, worth `second_bytes` apiece. Send iff p >= wrong / (missed + wrong) (prediction section
/// 3.5). `dearer` multiplies the cost of a byte.
#[must_use]
pub fn threshold(price: &Price, bytes: ByteSize, pods: f64, dearer: f64) -> f64 {
    let wrong = bytes.0 as f64 * dearer;
    let missed = price.second_bytes * saved(price, bytes) * counted(price, pods);
    if wrong + missed <= 0.0 {
        return 0.0;
    }
    wrong / (wrong + missed)
}

/// Seconds that one pod waits for so many missing bytes.
#[must_use]
pub fn saved(price: &Price, bytes: ByteSize) -> f64 {
    bytes.0 as f64 / price.rate.max(1.0) + price.overhead_s
}

/// Pods for which a second counts.
#[must_use]
pub fn counted(price: &Price, pods: f64) -> f64 {
    pods.clamp(1.0, price.pods_max.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_waiting_pods_lower_the_threshold_and_dearer_bytes_raise_it() {
        let price = Price::default();
        let size = ByteSize(500_000_000);
        let one = threshold(&price, size, 1.0, 1.0);
        assert!(threshold(&price, size, 3.0, 1.0) < one);
        assert!(threshold(&price, size, 1.0, 3.0) > one);
        assert!(threshold(&price, ByteSize(0), 1.0, 1.0) < 1e-9);
    }

    #[test]
    fn small_images_are_sent_at_lower_probability_than_large_ones() {
        let price = Price::default();
        let small = threshold(&price, ByteSize(1_000_000), 1.0, 1.0);
        assert!(small < threshold(&price, ByteSize(1_000_000_000), 1.0, 1.0));
    }
}
