//! Discovery among listed nodes: who is the primary, and who follows it, the nodes are asked themselves.

mod support;

use nearhit::config::{Address, UpstreamPlace};
use nearhit::topology::Topology;
use support::replicated::address;
use support::{Discovered, Replicated, free_port};

/// The nodes of this order.
fn listed(replicated: &Replicated, order: &[usize]) -> UpstreamPlace {
    UpstreamPlace::Nodes(order.iter().map(|index| replicated.at(*index)).collect())
}

fn topology<const N: usize>(primary: Address, replicas: [Address; N]) -> Topology {
    Topology::new(Some(primary), replicas)
}

#[test]
fn one_node_is_published_without_being_asked() {
    let nobody = address(free_port());
    let discovered = Discovered::look(UpstreamPlace::Nodes(vec![nobody.clone()]), false);
    discovered.wait_for(&Topology::single(nobody));
    support::wait_for("the discovery to end", support::SOON, || discovered.has_ended());
}

#[test]
fn the_primary_and_its_replicas_are_found_by_their_role() {
    let nodes = Replicated::start(2);
    let discovered = Discovered::look(listed(&nodes, &[1, 0, 2]), false);
    let all = topology(nodes.at(0), [nodes.at(1), nodes.at(2)]);
    discovered.wait_for(&all);
    let found = discovered.primaries_until(Some(&nodes.at(0)));
    assert_eq!(found, [Some(nodes.at(0))], "nobody else was published before");
}

#[test]
fn replicas_that_are_not_listed_are_found_if_they_are_wanted() {
    let nodes = Replicated::start(2);
    let wanted = Discovered::look(listed(&nodes, &[0]), true);
    wanted.wait_for(&topology(nodes.at(0), [nodes.at(1), nodes.at(2)]));
    let unwanted = Discovered::look(listed(&nodes, &[0, 1]), false);
    unwanted.wait_for(&topology(nodes.at(0), [nodes.at(1)]));
}

#[test]
fn the_only_node_is_published_even_if_it_is_a_replica() {
    let nodes = Replicated::start(1);
    let discovered = Discovered::look(listed(&nodes, &[1]), true);
    discovered.wait_for(&Topology::single(nodes.at(1)));
    nodes.promote(1);
    nodes.demote(0, 1);
    discovered.wait_for(&topology(nodes.at(1), [nodes.at(0)]));
}

#[test]
fn a_demoted_primary_is_taken_out_before_another_one_is_there() {
    let nodes = Replicated::start(2);
    let discovered = Discovered::look(listed(&nodes, &[0, 1, 2]), false);
    discovered.wait_for(&topology(nodes.at(0), [nodes.at(1), nodes.at(2)]));
    nodes.demote(0, 1);
    discovered.wait_for(&Topology::default());
    nodes.promote(1);
    nodes.demote(2, 1);
    discovered.wait_for(&topology(nodes.at(1), [nodes.at(0), nodes.at(2)]));
    let found = discovered.primaries_until(Some(&nodes.at(1)));
    assert_eq!(found, [Some(nodes.at(0)), None, Some(nodes.at(1))]);
}

/// It was asked only once a second, and until then every write failed.
#[test]
fn a_primary_that_is_doubted_is_asked_at_once() {
    let nodes = Replicated::start(1);
    let discovered = Discovered::look(listed(&nodes, &[0, 1]), false);
    discovered.wait_for(&topology(nodes.at(0), [nodes.at(1)]));
    let asked = || {
        let stats = nodes.primary().info("cmdstat_role");
        let calls = stats.split(['=', ',']).nth(1).map(str::to_owned);
        calls.and_then(|calls| calls.parse::<u32>().ok()).expect("a count")
    };
    let begun = nearhit::time::now();
    for _ in 0..12 {
        let before = asked();
        discovered.doubt();
        support::wait_for("another ROLE", support::SOON, || asked() > before);
    }
    let took = nearhit::time::now().since(begun);
    assert!(took < std::time::Duration::from_secs(6), "{took:?}");
}

#[test]
fn a_second_primary_changes_nothing_while_the_first_one_says_that_it_is_it() {
    let nodes = Replicated::start(1);
    let discovered = Discovered::look(listed(&nodes, &[1, 0]), false);
    discovered.wait_for(&topology(nodes.at(0), [nodes.at(1)]));
    nodes.promote(1);
    discovered.wait_for(&Topology::single(nodes.at(0)));
    nodes.demote(0, 1);
    discovered.wait_for(&topology(nodes.at(1), [nodes.at(0)]));
}

#[test]
fn a_primary_that_died_stays_until_another_node_is_one() {
    let mut nodes = Replicated::start(2);
    let discovered = Discovered::look(listed(&nodes, &[0, 1, 2]), false);
    discovered.wait_for(&topology(nodes.at(0), [nodes.at(1), nodes.at(2)]));
    nodes.nodes()[0].kill9();
    nodes.promote(2);
    nodes.demote(1, 2);
    discovered.wait_for(&topology(nodes.at(2), [nodes.at(1)]));
    let found = discovered.primaries_until(Some(&nodes.at(2)));
    assert_eq!(found, [Some(nodes.at(0)), Some(nodes.at(2))]);
}

#[test]
fn nobody_is_published_before_a_node_says_that_it_is_the_primary() {
    let mut nodes = Replicated::start(2);
    nodes.nodes()[0].kill9();
    let discovered = Discovered::look(listed(&nodes, &[0, 1, 2]), false);
    support::wait_for("a node to be asked", support::SOON, || {
        nodes.replica(1).cmd(&["CLIENT", "LIST"]).text().contains("cmd=role")
    });
    assert_eq!(discovered.now(), Topology::default());
    nodes.promote(1);
    discovered.wait_for_primary("the promoted node", |primary| *primary == nodes.at(1));
    assert_eq!(discovered.primaries_until(Some(&nodes.at(1))), [Some(nodes.at(1))]);
}
