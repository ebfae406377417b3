//! Bin packing as autoscalers do it: how many nodes of a shape do these pods need?

use crate::compose::amount::{Amount, CPU, MEMORY};
use crate::compose::cast::{ClassId, PoolId};

/// A node that is there or will be, with what is left of it.
#[derive(Clone, Debug)]
pub(crate) struct Bin {
    pub pool: PoolId,
    pub place: usize,
    pub free: Amount,
}

/// Pods that want a place.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub class: ClassId,
    pub ask: Amount,
    pub count: u32,
}

/// What new nodes of one shape would take.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub nodes: u32,
    /// Pods by entry of what was wanted.
    pub placed: Vec<u32>,
    /// CPU and memory left over, as shares of the new nodes' own.
    pub waste: (f64, f64),
}

/// Puts pods into bins that admit them; what is left over is returned.
pub(crate) fn fill(
    bins: &mut [Bin],
    wanted: Vec<Wanted>,
    admits: impl Fn(ClassId, PoolId, usize) -> bool,
) -> Vec<Wanted> {
    let mut left = Vec::new();
    for mut one in wanted {
        for bin in bins.iter_mut() {
            if one.count == 0 {
                break;
            }
            if admits(one.class, bin.pool, bin.place) {
                let fits = one.ask.times(&bin.free).min(one.count);
                bin.free.take(&one.ask, fits);
                one.count -= fits;
            }
        }
        if one.count > 0 {
            left.push(one);
        }
    }
    left
}

/// First fit, largest first, onto at most `most` empty nodes (cluster-autoscaler's
/// `binpacking_estimator.go`).
pub(crate) fn estimate(room: &Amount, wanted: &[Wanted], most: u32) -> Estimate {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| {
        let share = |index: &usize| wanted[*index].ask.share(room);
        share(b).total_cmp(&share(a)).then(a.cmp(b))
    });
    let mut nodes: Vec<Amount> = Vec::new();
    let mut placed = vec![0; wanted.len()];
    for index in order {
        let one = &wanted[index];
        let each = one.ask.times(room);
        let mut left = one.count;
        for node in &mut nodes {
            if left == 0 {
                break;
            }
            let fits = one.ask.times(node).min(left);
            node.take(&one.ask, fits);
            left -= fits;
        }
        while left > 0 && each > 0 && (nodes.len() as u32) < most {
            let fits = each.min(left);
            let mut node = room.clone();
            node.take(&one.ask, fits);
            nodes.push(node);
            left -= fits;
        }
        placed[index] = one.count - left;
    }
    let count = nodes.len().max(1) as f64;
    let waste = |place: usize| {
        let left: u64 = nodes.iter().map(|node| node.get(place)).sum();
        left as f64 / (room.get(place) as f64 * count).max(1.0)
    };
    Estimate {
        waste: (waste(CPU), waste(MEMORY)),
        nodes: nodes.len() as u32,
        placed,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::node::Resources;
    use crate::domain::quantity::ByteSize;

    fn amount(cpu: u64, memory: u64, pods: u64) -> Amount {
        let resources = Resources {
            cpu_milli: cpu,
            memory: ByteSize(memory),
            pods,
            ..Resources::default()
        };
        Amount::of(&resources, &[])
    }

    fn wanted(cpu: u64, memory: u64, count: u32) -> Wanted {
        Wanted {
            class: 0,
            ask: amount(cpu, memory, 1),
            count,
        }
    }

    #[test]
    fn seven_pods_of_three_cpus_need_four_nodes_of_eight() {
        let found = estimate(&amount(8000, 100, 110), &[wanted(3000, 1, 7)], 10);
        assert_eq!((found.nodes, found.placed), (4, vec![7]));
    }

    #[test]
    fn small_pods_go_beside_large_ones() {
        let pods = [wanted(2000, 1, 4), wanted(6000, 1, 4)];
        let found = estimate(&amount(8000, 100, 110), &pods, 10);
        assert_eq!((found.nodes, found.waste.0), (4, 0.0));
    }

    #[test]
    fn no_more_nodes_than_allowed() {
        let found = estimate(&amount(8000, 100, 110), &[wanted(5000, 1, 7)], 3);
        assert_eq!((found.nodes, found.placed), (3, vec![3]));
    }

    proptest! {
        #[test]
        fn what_is_placed_fits_into_the_nodes(
            asks in proptest::collection::vec((1u64..9000, 1u64..200, 0u32..40), 1..8),
            most in 0u32..30,
        ) {
            let room = amount(8000, 100, 20);
            let pods: Vec<Wanted> = asks.iter().map(|(c, m, n)| wanted(*c, *m, *n)).collect();
            let found = estimate(&room, &pods, most);
            prop_assert!(found.nodes <= most);
            let sum = |of: fn(&Wanted) -> u64| -> u64 {
                pods.iter().zip(&found.placed).map(|(pod, n)| of(pod) * u64::from(*n)).sum()
            };
            prop_assert!(sum(|pod| pod.ask.get(CPU)) <= 8000 * u64::from(found.nodes));
            prop_assert!(sum(|pod| pod.ask.get(MEMORY)) <= 100 * u64::from(found.nodes));
            prop_assert!(found.placed.iter().sum::<u32>() <= 20 * found.nodes);
        }
    }
}
