//! Packing: what an autoscaler would do, and the laws that it keeps.

use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;

fn resources(cpu_milli: u64, gib: u64) -> Resources {
    Resources {
        cpu_milli,
        memory: ByteSize(gib * GIB),
        ..Resources::default()
    }
}

fn rooms(most: u32) -> Rooms {
    Rooms {
        node: Resources {
            pods: 110,
            ..resources(8000, 32)
        },
        free: Vec::new(),
        most,
    }
}

#[test]
fn equal_pods_fill_one_node_after_the_other_up_to_the_limit() {
    let request = resources(1500, 2);
    let packed = |most| pack(&[(&request, 12)], &rooms(most));
    // Five of 1.5 CPU on eight.
    let wanted = Packed {
        nodes: 3,
        least: 3,
        homeless: 0,
    };
    assert_eq!(packed(10), wanted);
    let limited = Packed {
        nodes: 2,
        least: 2,
        homeless: 2,
    };
    assert_eq!(packed(2), limited);
}

#[test]
fn large_pods_go_first_and_small_ones_fill_the_gaps() {
    let (large, small) = (resources(5000, 8), resources(3000, 8));
    let packed = pack(&[(&small, 4), (&large, 4)], &rooms(100));
    assert_eq!((packed.nodes, packed.least), (4, 4));
}

#[test]
fn free_rooms_are_filled_first_and_are_no_new_nodes() {
    let request = resources(4000, 4);
    let mut rooms = rooms(100);
    rooms.free = vec![
        Resources {
            pods: 3,
            ..resources(9000, 9)
        };
        2
    ];
    let packed = pack(&[(&request, 6)], &rooms);
    assert_eq!((packed.nodes, packed.homeless), (1, 0));
}

#[test]
fn the_pod_limit_of_a_node_counts_and_a_pod_that_fits_nowhere_needs_no_node() {
    let (tiny, huge) = (resources(10, 0), resources(64_000, 1));
    let packed = pack(&[(&tiny, 250), (&huge, 3)], &rooms(100));
    assert_eq!((packed.nodes, packed.least, packed.homeless), (3, 3, 3));
    let mut gpu = resources(100, 1);
    gpu.extended.insert("nvidia.com/gpu".into(), 1);
    assert_eq!(pack(&[(&gpu, 1)], &rooms(9)).homeless, 1);
}

#[test]
fn a_distribution_of_pods_is_one_of_nodes() {
    let demand = [Pods {
        request: resources(4000, 4),
        count: Counts::rising([0, 0, 1, 2, 4, 6, 10, 20, 200]),
    }];
    let count = NodeCount::of(&demand, &rooms(50));
    assert_eq!(count.nodes.levels(), [0, 0, 1, 1, 2, 3, 5, 10, 50]);
    assert_eq!(count.quantile(0.9), 5);
    assert_eq!(count.least, count.nodes);
}

fn demand() -> impl Strategy<Value = Vec<(Resources, u32)>> {
    let pods =
        (0_u64..9000, 0_u64..36, 0_u32..40).prop_map(|(cpu, gib, n)| (resources(cpu, gib), n));
    prop::collection::vec(pods, 0..8)
}

proptest! {
    #[test]
    fn nodes_lie_between_the_lower_bound_and_the_limit_and_every_pod_is_accounted_for(
        demand in demand(), most in 0_u32..60, free in prop::collection::vec((0_u64..9000, 0_u64..36), 0..4),
    ) {
        let mut rooms = rooms(most);
        rooms.free = free.iter().map(|(cpu, gib)| Resources { pods: 20, ..resources(*cpu, *gib) }).collect();
        let pods: Vec<_> = demand.iter().map(|(request, count)| (request, *count)).collect();
        let packed = pack(&pods, &rooms);
        prop_assert!(packed.least <= packed.nodes && packed.nodes <= most, "{packed:?}");
        // With room enough, only those are left that fit no empty node and no free room.
        rooms.most = NODES_MAX;
        let all = pack(&pods, &rooms);
        let misfits: u32 = demand.iter()
            .filter(|(request, _)| !one(request, &rooms.node).fits_in(&rooms.node))
            .map(|(_, count)| count).sum();
        prop_assert!(all.homeless <= misfits, "{all:?} {misfits}");
        // The unlimited bound is one for every packing: ours never needs fewer.
        let bound = lower_bound(&demand.iter().map(|(r, n)| (one(r, &rooms.node), *n)).collect::<Vec<_>>(), &rooms);
        prop_assert!(all.homeless > 0 || bound <= all.nodes, "{bound} {all:?}");
    }

    #[test]
    fn more_demand_never_means_fewer_nodes(
        groups in prop::collection::vec((1_u64..9000, 1_u64..36, prop::collection::vec(0_u32..30, 9)), 1..6),
        most in 0_u32..80,
    ) {
        let demand: Vec<Pods> = groups.into_iter().map(|(cpu, gib, mut counts)| {
            counts.sort_unstable();
            Pods { request: resources(cpu, gib), count: Counts::rising(counts.try_into().unwrap()) }
        }).collect();
        let count = NodeCount::of(&demand, &rooms(most));
        prop_assert!(count.nodes.levels().is_sorted());
        prop_assert!(count.nodes.levels()[8] <= most);
        for (least, nodes) in count.least.levels().iter().zip(count.nodes.levels()) {
            prop_assert!(*least <= nodes);
        }
    }

    #[test]
    fn of_equal_pods_one_more_never_needs_fewer_nodes(cpu in 1_u64..9000, gib in 1_u64..36, count in 0_u32..200) {
        let request = resources(cpu, gib);
        let nodes = |count| pack(&[(&request, count)], &rooms(1000)).nodes;
        prop_assert!(nodes(count) <= nodes(count + 1));
    }
}
